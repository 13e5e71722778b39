"""Progress bars of trainings in other processes, read from their run folders."""

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from src.runs.folder import RunFolder
from src.runs.metrics_csv import epochs_done

EVERY_S = 2.0


@contextmanager
def show_progress(runs: Mapping[str, RunFolder], epochs: int, *, enabled: bool) -> Iterator[None]:
    """Shows one bar per run on the terminal while other processes train them: epochs done.

    Args:
        runs: by the name beside the bar.
        enabled: if false, or if stderr is no terminal, nothing is shown.
    """
    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress, ended = Progress(*columns, console=console), threading.Event()
    tasks = {progress.add_task(name, total=epochs): run for name, run in runs.items()}

    def follow() -> None:
        while not ended.wait(EVERY_S):
            for task, run in tasks.items():
                progress.update(task, completed=epochs_done(run.metrics))

    outside = sys.stdout
    with progress:
        # Within this block rich replaces sys.stdout, by a stream that prints above the bars: log lines must go there.
        handlers = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is outside
        ]
        for handler in handlers:
            handler.setStream(sys.stdout)
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for handler in handlers:
                handler.setStream(outside)
