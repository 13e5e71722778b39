"""Runs modules of this project in child processes, each with a log file, which end with this process."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from src.machine import RUN_VARIABLE, describe_end
from src.processes.orphans import child_environment
from src.processes.signals import GRACE

T = TypeVar("T")
PROMPT = "$ python -m "  # stands before each command in a log
_running: set[subprocess.Popen] = set()
_ended = threading.Event()  # set while all children are to end: none starts


def run_module(command: Sequence[str], log: Path, device: str | None = None) -> int:
    """Runs a module in a child process, which ends if this process does; returns its status, negative for a signal.

    Args:
        command: name of the module and its arguments.
        log: file that the command line and all output are added to.
        device: value of CUDA_VISIBLE_DEVICES for the child; None leaves it as it is here.
    """
    changes = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    with log.open("a") as file:
        print(f"{PROMPT}{' '.join(command)}", file=file, flush=True)
        return run(command, {RUN_VARIABLE: None, **changes}, stdout=file, stderr=subprocess.STDOUT)


def run(command: Sequence[str], changes: Mapping[str, str | None], **options: Any) -> int:
    """Runs a module in a child process; returns its status, negative for a signal.

    If this process dies, the child is killed. If the call is interrupted, or `ended_together`, the child gets SIGTERM,
    and is killed if it has not ended in time.

    Args:
        command: name of the module and its arguments.
        changes: environment variables of the child; None removes one.
        options: of `subprocess.Popen`.
    """
    if _ended.is_set():
        return -signal.SIGTERM
    env = {name: value for name, value in {**child_environment(), **changes}.items() if value is not None}
    with subprocess.Popen([sys.executable, "-m", *command], env=env, **options) as process:
        _running.add(process)
        try:
            if _ended.is_set():
                _end(process)
            return process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            _running.discard(process)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def ended_together() -> Iterator[None]:
    """Ends the children that other threads run if the block raises; none starts from then on.

    Threads start children one after the other, and would go on with the next one.
    """
    _ended.clear()
    try:
        yield
    except BaseException:
        _ended.set()
        threads = [threading.Thread(target=_end, args=(process,)) for process in list(_running)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        raise


def side_by_side(
    work: Callable[[T, str | None], str | None], items: Sequence[T], devices: Sequence[str | None]
) -> list[tuple[T, str | None]]:
    """Calls `work(item, device)` for each item, as many at a time as there are devices; returns items with answers.

    If one call raises, the children of the others end, and none starts.
    """
    free: SimpleQueue[str | None] = SimpleQueue()
    for device in devices:
        free.put(device)

    def next_free(item: T) -> str | None:
        device = free.get()
        try:
            return work(item, device)
        finally:
            free.put(device)

    with ThreadPoolExecutor(max_workers=len(devices)) as pool, ended_together():
        return list(zip(items, pool.map(next_free, items), strict=True))


def last_error(log: Path) -> str | None:
    """Returns the one-line error of the last command in a log; None if the command printed none."""
    output = log.read_text(errors="replace").rpartition(PROMPT)[2]
    found = re.findall(r"^error: (.*)$", output, re.MULTILINE)
    return found[-1] if found else None


def failure(command: Sequence[str], log: Path, device: str | None = None) -> str | None:
    """Runs a module as `run_module` does; returns the reason if it fails, else None."""
    status = run_module(command, log, device)
    return None if status == 0 else last_error(log) or f"{command[0]} {describe_end(status)}"
