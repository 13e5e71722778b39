"""The best and the last checkpoint of a run, each replaced in one step."""

import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from src.callbacks.csv_logger import CSVLogger
from src.errors import UserError
from src.files import atomic_path
from src.runs.seal import keep_before, seal
from src.task import SegmentationTask

FIGURES = "figures"  # key in a checkpoint of the rows of metrics.csv


class BestAndLast(Checkpoint):
    """`best.ckpt` and `last.ckpt` in a folder, written after each epoch; a kill at any time leaves both whole.

    It replaces Lightning's ModelCheckpoint, which (2.6.6) writes its last checkpoint only if the monitored figure
    improved, and forgets the best score if the folder was moved. "best" maximises the figure `monitor` of validation.
    Each has a seal (`src.runs.seal`), by which a damaged file is known; `before.ckpt` is the last but one.
    """

    def __init__(self, folder: str, monitor: str) -> None:
        self.folder, self.monitor = Path(folder), monitor
        self.best_score = -math.inf
        self._fresh = False

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self._fresh = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        task.check_finite()
        score = float(trainer.callback_metrics[self.monitor]) if self._fresh else -math.inf
        self._fresh = False
        # The best one first: a run that is killed between the two resumes from the older last one and finds it again.
        if score > self.best_score:
            self.best_score = score
            self._save(trainer, "best")
        self._save(trainer, "last")

    def _save(self, trainer: L.Trainer, name: str) -> None:
        path = self.folder / f"{name}.ckpt"
        if trainer.is_global_zero:
            with atomic_path(path) as temporary:
                trainer.save_checkpoint(temporary)
                seal(temporary)
                if name == "last" and path.is_file():
                    keep_before(path, self.folder / "before.ckpt")
        else:
            trainer.save_checkpoint(path)  # takes part in the collectives, writes nothing

    def on_save_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if (logger := self._csv_logger(trainer)) is not None:
            checkpoint[FIGURES] = logger.rows

    def on_load_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if (logger := self._csv_logger(trainer)) is not None:
            logger.restore(checkpoint.get(FIGURES, []))

    @staticmethod
    def _csv_logger(trainer: L.Trainer) -> CSVLogger | None:
        return next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score = state_dict["best_score"]
        if self.best_score > -math.inf and not (best := self.folder / "best.ckpt").is_file():
            raise UserError(
                f"{best}: is missing, and the result of the run with it: put back a copy of it, or train anew beside "
                "this run with resume=false"
            )
