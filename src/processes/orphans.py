"""Ends a process whose parent is gone: a fold that nobody waits for would train on and hold its run folder."""

import os
import signal
import threading
import time

from src.machine import PARENT_VARIABLE

EXIT_STATUS = 128 + signal.SIGTERM  # what a shell says of a process that SIGTERM ended
POLL = 1.0
GRACE = 15.0  # seconds from SIGTERM to SIGKILL, for Lightning to end its batch and the data workers


def child_environment() -> dict[str, str]:
    """The environment for a child that is to end with this process."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Watches the parent, where it asked for that by `child_environment`, in a thread; ends this process after it.

    The variable is removed: this process' own children have another parent.
    """
    if (parent := os.environ.pop(PARENT_VARIABLE, None)) is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)
    # Lightning heeds SIGTERM between batches alone, and a logger may wait for its server.
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
