"""Starts commands in processes of their own, and kills them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from src.runs.folder import RunFolder
from tests.support.paths import ROOT


@contextmanager
def started(module: str, *words: str) -> Iterator[subprocess.Popen]:
    """Starts a command in its own process group, without output; no process of the group outlives the block."""
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(module: str, *words: str) -> float:
    """Runs a command to its end, with exit status 0; returns the seconds it took."""
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return time.monotonic() - began


def kill_then_finish(moments: Iterable[Callable[[], object]], module: str, *words: str) -> None:
    """Starts a command for each moment and SIGKILLs its process tree when that returns; then runs it to its end."""
    for wait in moments:
        with started(module, *words) as process:
            wait()
            assert process.poll() is None, "it ended before it could be killed"
    finish(module, *words)


def wait_until(holds: Callable[[], bool], seconds: float) -> float:
    """Waits until `holds` returns True, at most `seconds`; returns the seconds it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.05)
    return time.monotonic() - began


def is_free(run: RunFolder) -> bool:
    """Returns whether no process has the folder locked, neither a training nor one of its data workers."""
    try:
        run.lock().close()
    except ValueError:
        return False
    return True


def assert_same_weights(first: Path, second: Path) -> None:
    """Compares the best checkpoints of two runs bit by bit."""
    paths = [run / "checkpoints" / "best.ckpt" for run in (first, second)]
    one, two = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]


def sessions(run: RunFolder) -> Sequence[dict]:
    """Returns the records of each start of a run."""
    return run.read_environment().get("sessions", [])
