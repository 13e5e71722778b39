"""Commands in processes of their own, killed at moments of no choice."""

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
    """An entry point in a process group of its own, its output dropped; nothing of the group outlives the block."""
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(module: str, *words: str) -> float:
    """Runs an entry point to its end, which must be good; returns the seconds it took."""
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return time.monotonic() - began


def kill_then_finish(moments: Iterable[Callable[[], object]], module: str, *words: str) -> None:
    """SIGKILLs the whole process tree when each moment returns and gives the command again; at last to its end."""
    for wait in moments:
        with started(module, *words) as process:
            wait()
            assert process.poll() is None, "it ended before it could be killed"
    finish(module, *words)


def wait_until(holds: Callable[[], bool], seconds: float) -> float:
    """Waits for what must hold before so many seconds are over; returns how many it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.05)
    return time.monotonic() - began


def is_free(run: RunFolder) -> bool:
    """Whether no process holds the folder: neither one that trains in it nor a data worker of such."""
    try:
        run.lock().close()
    except ValueError:
        return False
    return True


def assert_same_weights(first: Path, second: Path) -> None:
    """The best checkpoints of two runs, bit by bit."""
    paths = [run / "checkpoints" / "best.ckpt" for run in (first, second)]
    ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def sessions(run: RunFolder) -> Sequence[dict]:
    """What a run tells of each time it was started."""
    return run.read_environment().get("sessions", [])
