"""The state of a sweep while other processes run its jobs, read from its folder and the run folders."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live

from src.errors import UserError
from src.reports.sweep import ended, live_state
from src.runs.sweep import read_sweep

EVERY_S = 2.0  # seconds between looks at the folders


@contextmanager
def following(folder: Path, clean: Callable[[str], str]) -> Iterator[None]:
    """Shows a sweep until the block ends: a table on a terminal, else a line for each job that ends.

    Args:
        folder: of the sweep.
        clean: makes a text printable, which has what users named.
    """
    console, over = Console(stderr=True), threading.Event()
    live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
    thread = threading.Thread(target=_follow, args=(folder, live, clean, over), daemon=True)
    if live:
        live.start()
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if live:
            live.stop()


def _follow(folder: Path, live: Live | None, clean: Callable[[str], str], over: threading.Event) -> None:
    """Shows the sweep every few seconds, and once more at its end."""
    seen: set[int] = set()
    is_over = False
    while not is_over:
        is_over = over.wait(EVERY_S)
        try:
            sweep = read_sweep(folder)
        except UserError:  # a damaged record: the job that it belongs to, or the table at the end, names it
            continue
        if live:
            live.update(live_state(sweep, clean), refresh=True)
        for job in sweep.jobs:
            if not live and job.has_begun and job.state != "not finished" and job.number not in seen:
                print(clean(ended(sweep, job)), flush=True)
                seen.add(job.number)
