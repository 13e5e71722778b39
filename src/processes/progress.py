"""Progress of trainings that other processes do, as far as their run folders tell. Without torch."""

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from src.runs.folder import RunFolder
from src.runs.metrics_csv import read_metrics

EVERY_S = 2.0


@contextmanager
def following(runs: Mapping[str, RunFolder], epochs: int, *, shown: bool) -> Iterator[None]:
    """A bar a run on the terminal while others train them: epochs done.

    Args:
        runs: by the name that is told.
        epochs: of each.
        shown: false, or a stderr that is no terminal: nothing is.
    """
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress, ends = Progress(*columns, console=console), threading.Event()

    def follow(tasks: dict[str, TaskID]) -> None:
        while not ends.wait(EVERY_S):
            for name, task in tasks.items():
                progress.update(task, completed=epochs_done(runs[name]))

    outside = sys.stdout
    with progress:
        # Lines of the log go above the bars.
        handlers = [h for h in logging.getLogger().handlers if getattr(h, "stream", None) is outside]
        for handler in handlers:
            handler.setStream(sys.stdout)
        tasks = {name: progress.add_task(name, total=epochs) for name in runs}
        thread = threading.Thread(target=follow, args=(tasks,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
            for handler in handlers:
                handler.setStream(outside)


def epochs_done(run: RunFolder) -> int:
    """How many epochs a run's `metrics.csv` has."""
    rows = read_metrics(run.metrics) if run.metrics.is_file() else []
    return 1 + max((row["epoch"] for row in rows), default=-1)
