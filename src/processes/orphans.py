"""Ends a process whose parent has died: a fold without its cross-validation would train on and lock its run folder."""

import os
import signal
import threading
import time

from src.machine import PARENT_VARIABLE, die_with

POLL = 1.0  # seconds between looks at the parent, on a system that does not do this by itself


def child_environment() -> dict[str, str]:
    """Returns the environment for a child that must end with this process."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Ends this process by SIGKILL once its parent has died, if the parent set `child_environment`, or is torchrun.

    SIGKILL ends stopped processes too, and costs nothing that a kill of the whole would not: every file is written in
    one step. The variable is removed, because the children of this process have another parent.
    """
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None and "TORCHELASTIC_RUN_ID" in os.environ:
        parent = str(os.getppid())
    if parent is not None and not die_with(int(parent)):
        threading.Thread(target=_watch, args=(int(parent),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGKILL)
