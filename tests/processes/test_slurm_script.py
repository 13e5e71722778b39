"""The Slurm script hands on the words, the signal's status, and queues the job again only after SIGUSR1."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "scripts" / "slurm" / "train.sh"


def program(path: Path, content: str) -> Path:
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("status", "requeued"), [(138, "requeue 7\n"), (143, ""), (0, ""), (1, "")])
def test_a_job_is_queued_again_after_the_warning_only(status: int, requeued: str, tmp_path: Path) -> None:
    noted, words = tmp_path / "scontrol.txt", tmp_path / "words.txt"
    program(tmp_path / "scontrol", f'echo "$@" >> {noted}')
    program(tmp_path / "srun", 'exec "$@"')
    python = program(tmp_path / "python", f'for word in "$@"; do echo "$word" >> {words}; done; exit {status}')
    noted.touch()
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHON": str(python), "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path)}
    result = subprocess.run([SCRIPT, "data.root=/a b", "seed=1"], env=env, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert noted.read_text() == requeued
    assert words.read_text().splitlines() == ["-m", "src.train", "data.root=/a b", "seed=1"]
