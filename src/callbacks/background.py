"""Calls made in order by a thread of their own, so that a training never waits for what they reach."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def within(seconds: float, function: Callable[[], T]) -> T:
    """Returns what a function returns, or raises what it raises, if it ends within a time.

    A function that does not end goes on in a daemon thread, which the end of the process does not wait for.

    Raises:
        TimeoutError: it has not ended.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def call() -> None:
        try:
            results.put((True, function()))
        except BaseException as error:  # raised again in the thread that waits
            results.put((False, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        is_result, value = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if is_result:
        return value
    raise value


class Background:
    """A daemon thread that makes calls in the order in which they are given."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def give(self, call: Callable[[], object]) -> None:
        """Adds a call, which must deal with its own errors; does not wait for it."""
        self._calls.put(call)

    def close(self, seconds: float) -> bool:
        """Waits until all calls are made; returns False if they are not after some seconds."""
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:  # a bug; the thread goes on, for the calls that follow
                log.exception("a call in the background failed")
