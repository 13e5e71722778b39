"""Work of several threads, in order, under a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from src.machine import is_first_process

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], num_threads: int, title: str
) -> Iterator[Result]:
    """Yields the results in order, under a progress bar. Decoders release Python's lock.

    An error cancels the items that wait.
    """
    pool = ThreadPoolExecutor(num_threads)
    try:
        from rich.progress import Progress  # takes a tenth of a second, for which reports need not wait

        with Progress(disable=not items or not is_first_process()) as bar:
            yield from bar.track(pool.map(function, items), len(items), description=title)
    finally:
        pool.shutdown(cancel_futures=True)
