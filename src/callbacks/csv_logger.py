"""Logs every figure to one CSV that survives a kill and a resume."""

import csv
import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from src.errors import UserError
from src.files import atomic_path
from src.reports.dashboard import Dashboard
from src.runs.metrics_csv import Row, holds, read_metrics

log = logging.getLogger(__name__)


class CSVLogger(Dashboard, Logger):
    """Writes one row per step and one column per figure, the whole file each epoch.

    A continued run repeats the steps after its checkpoint: its rows replace the earlier ones of these steps.
    (Lightning's CSVLogger deletes the file of the earlier session.) Checkpoints hold the rows too, so that a file that
    was cut or lost is known, and written anew. It has nothing to mark or to publish: the run folder has the pictures,
    and reports mark the figures that they read from the file.

    Args:
        path: the file; its folder gives the logger its name.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: list[Row] = []

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
        assert step is not None
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1].update(metrics)

    @rank_zero_only
    def restore(self, recorded: list[Row]) -> None:
        """Takes up the rows of the file, or those of the checkpoint if the file does not have them all.

        Rows of later steps are left out.

        Args:
            recorded: rows that had been logged when the checkpoint was written.
        """
        last = recorded[-1]["step"] if recorded else -1
        try:
            found = read_metrics(self.path) if self.path.is_file() else []
            self.rows = [row for row in found if row["step"] <= last]
            fault = None if holds(self.rows, recorded) else "lacks figures that the last checkpoint has, or has others"
        except UserError as error:
            fault = str(error)
        if fault is not None:
            log.warning("%s: %s; it is written anew, by the figures in the checkpoint", self.path, fault)
            self.rows = recorded

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:
            return
        columns = ["step", "epoch", *sorted({key for row in self.rows for key in row} - {"step", "epoch"})]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
