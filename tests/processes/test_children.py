"""Modules in child processes: their environment, the paths on their command lines, the error in their log."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config.words import quoted
from src.machine import PARENT_VARIABLE, RUN_VARIABLE
from src.processes import children


@pytest.mark.parametrize("device", [None, "GPU-1a"])
def test_a_child_knows_its_parent_and_its_gpu_but_not_the_run_folder(
    device: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}

    def run(line: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess:
        found.update(env)
        assert line == [sys.executable, "-m", "src.train", "seed=1"]
        return subprocess.CompletedProcess(line, 3)

    monkeypatch.setenv(RUN_VARIABLE, "runs/parent")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(children.subprocess, "run", run)
    assert children.run_module(["src.train", "seed=1"], tmp_path / "log", device) == 3
    assert RUN_VARIABLE not in found, "it would train in the folder of its parent"
    assert found["CUDA_VISIBLE_DEVICES"] == (device or "0,1")
    assert found[PARENT_VARIABLE].isdigit()


def test_the_error_of_the_last_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("$ python -m src.train a=1\nerror: too small\n$ python -m src.train a=2\nepoch 1\n")
    assert children.last_error(log) is None
    with log.open("a") as file:
        file.write("an error: no\nerror: too large\nTraceback\n")
    assert children.last_error(log) == "too large"


@pytest.mark.parametrize(
    "name", ["plain", "two words", "it's", "a=b,c", "[x]{y}", "back\\slash", "ends\\", "\\'", "(1)#"]
)
def test_a_path_survives_hydras_grammar(name: str) -> None:
    word = f"runs={quoted(Path('/a') / name)}"
    assert OverridesParser.create().parse_override(word).value() == f"/a/{name}"
