"""Gives up a download whose server only drips."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SLOWEST, PATIENCE = 1_000_000, 120.0  # a download that brings fewer bytes in so many seconds is given up


def in_time(work: Callable[[Callable[[], None]], object], folder: Path) -> None:
    """Downloads in a thread, and raises OSError if the server only drips: no timeout of a socket ends that.

    Args:
        work: downloads into `folder`; calls its argument when the last byte has arrived, if it has more to do.
    """
    arrived, errors = threading.Event(), []

    def run() -> None:
        try:
            work(arrived.set)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="download", daemon=True)
    thread.start()
    before = _size(folder)
    while thread.is_alive():
        thread.join(PATIENCE)
        size = _size(folder)
        if thread.is_alive() and not arrived.is_set() and size - before < SLOWEST:
            raise TimeoutError(f"the server sent {size - before} bytes in {PATIENCE:g} seconds")
        before = size
    if errors:
        raise errors.pop()  # not kept by this list: its traceback keeps the connection


def _size(folder: Path) -> int:
    """Sums the sizes of the files in a folder, of which some may vanish meanwhile."""
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
