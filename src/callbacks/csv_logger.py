"""Logs every figure to one CSV that survives a kill and a resume."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from src.files import atomic_path
from src.reports.dashboard import Dashboard
from src.runs.metrics_csv import read_metrics


class CSVLogger(Dashboard, Logger):
    """Writes one row per step and one column per figure, the whole file each epoch.

    A resumed run repeats the steps after its checkpoint: its rows replace the earlier ones of these steps. (Lightning's
    CSVLogger deletes the file of the earlier session.) It has nothing to mark or to publish: the run folder has the
    pictures, and reports mark the figures that they read from the file.

    Args:
        path: the file; its folder gives the logger its name.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows: list[dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return self.path.parent.name

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing; the run folder has the resolved configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._rows is None:
            self._rows = read_metrics(self.path) if self.path.is_file() else []
        while self._rows and self._rows[-1]["step"] > step:
            self._rows.pop()
        if not self._rows or self._rows[-1]["step"] != step:
            self._rows.append({"step": step})
        self._rows[-1].update(metrics)

    @rank_zero_only
    def save(self) -> None:
        if not self._rows:
            return
        columns = ["step", "epoch", *sorted({key for row in self._rows for key in row} - {"step", "epoch"})]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
