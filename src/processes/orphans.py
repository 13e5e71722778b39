"""Ends a process whose parent has died: a fold without its cross-validation would train on and lock its run folder."""

import os
import signal
import threading
import time

from src.machine import PARENT_VARIABLE

EXIT_STATUS = 128 + signal.SIGTERM  # a shell's status for a process that SIGTERM ended
POLL = 1.0  # seconds between looks at the parent
GRACE = 15.0  # seconds from SIGTERM to SIGKILL, for Lightning to end its batch and the data workers


def child_environment() -> dict[str, str]:
    """Returns the environment for a child that must end with this process."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Starts a thread that ends this process once its parent has died, if the parent set `child_environment`.

    The variable is removed, because the children of this process have another parent.
    """
    if (parent := os.environ.pop(PARENT_VARIABLE, None)) is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)
    # Lightning obeys SIGTERM only between batches, and a logger may wait for its server.
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
