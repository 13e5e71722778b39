"""The best and the last checkpoint of a run, each replaced in one step."""

import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from src.callbacks.csv_logger import CSVLogger
from src.errors import UserError
from src.evaluation.checkpoint import WITHIN
from src.files import atomic_path
from src.processes.signals import Deferral, stop
from src.runs.seal import keep_before, seal
from src.task import SegmentationTask

log = logging.getLogger(__name__)
AGAIN = "the same command continues from it"
FIGURES = "figures"  # key in a checkpoint of the rows of metrics.csv


class DirectIO(TorchCheckpointIO):
    """Writes a checkpoint straight into its file. Lightning's writes it to memory, then to `$TMPDIR`, then moves it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)


class BestAndLast(Checkpoint):
    """`best.ckpt` and `last.ckpt` in a folder, written after each epoch; a kill at any time leaves both whole.

    It replaces Lightning's ModelCheckpoint, which (2.6.6) writes its last checkpoint only if the monitored figure
    improved, and forgets the best score if the folder was moved. "best" maximises the figure `monitor` of validation.
    Each has a seal (`src.runs.seal`), by which a damaged file is known; `before.ckpt` is the last but one.

    `last.ckpt` is also written within an epoch, between two steps of the optimizer: every `every_minutes`, and if a
    signal is to end the process. A training that continues from it goes on with the next sample. Several devices agree
    on this every `log_every_n_steps` batches.

    The last epoch is validated whatever `check_val_every_n_epoch` is. Lightning would train epochs beyond its last
    multiple for nothing, since weights that were not validated are never the best.

    Args:
        every_minutes: at least; 0: after every step; None: only at the end of an epoch, and after a signal.

    Raises:
        UserError: fewer than 0 minutes.
    """

    def __init__(self, folder: str, monitor: str, every_minutes: float | None = None) -> None:
        if every_minutes is not None and not every_minutes >= 0:
            raise UserError(f"checkpoints.every_minutes={every_minutes}: must be at least 0, or null for never")
        self.folder, self.monitor = Path(folder), monitor
        self.interval = math.inf if every_minutes is None else 60 * every_minutes  # s
        self.best_score = -math.inf
        self._fresh = False
        self._saved = math.inf  # time of the last save
        self._deferral = Deferral()
        self._within: dict[str, Any] | None = None  # of a checkpoint within an epoch: the sums of its mean loss

    def setup(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = DirectIO()

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self._saved = time.monotonic()
        self._deferral.begin()

    def on_train_batch_start(self, trainer: L.Trainer, task: SegmentationTask, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:  # at any batch: a run may continue within it
            trainer.check_val_every_n_epoch = 1
        every_n: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  # set from outside
        is_asked = trainer.world_size == 1 or batch_idx % every_n == 0  # the ranks would wait for each other
        if batch_idx == 0 or batch_idx % trainer.accumulate_grad_batches or not is_asked:
            return
        is_due = time.monotonic() - self._saved >= self.interval
        number, is_due = _agree(trainer, self._deferral.number, int(is_due and trainer.is_global_zero))
        if number or is_due:
            task.check_finite()
            losses = {
                name: trainer.strategy.reduce(sums.clone(), reduce_op="sum") for name, sums in _sums(task).items()
            }
            self._within = {"batches": batch_idx, "losses": losses}
            self._save(trainer, "last")
            self._within = None
        self._stop(
            trainer,
            number,
            f"epoch {trainer.current_epoch + 1}, after batch {batch_idx} of {int(trainer.num_training_batches)}",
        )

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._deferral.end()  # a validation may take too long to wait for its end
            self._stop(trainer, self._deferral.number, "an earlier step of this epoch, or before it")

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self._fresh = not trainer.sanity_checking
        if self._fresh:
            self._deferral.begin()

    def on_train_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        task.check_finite()
        score = float(trainer.callback_metrics[self.monitor]) if self._fresh else -math.inf
        self._fresh = False
        # The best one first: a run that is killed between the two resumes from the older last one and finds it again.
        if score > self.best_score:
            self.best_score = score
            self._save(trainer, "best")
        self._save(trainer, "last")
        number, _ = _agree(trainer, self._deferral.number, 0)
        self._stop(trainer, number, f"the end of epoch {trainer.current_epoch + 1}")

    def on_train_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self._deferral.end()

    def on_exception(self, trainer: L.Trainer, task: L.LightningModule, exception: BaseException) -> None:
        self._deferral.end()

    def _stop(self, trainer: L.Trainer, number: int, place: str) -> None:
        """Ends this process if a signal has asked for it."""
        if number:
            self._deferral.end()
            if trainer.is_global_zero:
                log.info("%s: the last checkpoint is of %s; %s", signal.Signals(number).name, place, AGAIN)
            stop(number, None)

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
        self._saved = time.monotonic()

    def on_save_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if (logger := self._csv_logger(trainer)) is not None:
            checkpoint[FIGURES] = logger.rows
        if self._within is not None:
            checkpoint[WITHIN] = self._within
            # Lightning has taken the next batch already, which is not trained on.
            for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
                if isinstance(counts, dict):
                    counts["ready"] = counts["completed"]

    def on_load_checkpoint(self, trainer: L.Trainer, task: SegmentationTask, checkpoint: dict[str, Any]) -> None:
        for name, total in checkpoint.get(WITHIN, {}).get("losses", {}).items():
            value = total if trainer.is_global_zero else torch.zeros_like(total)  # it is the sum over the ranks
            setattr(task.mean_loss, name, value.to(task.device))
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


def _agree(trainer: L.Trainer, *numbers: int) -> list[int]:
    """Returns the largest of each number over the ranks."""
    if trainer.world_size == 1:
        return list(numbers)
    return trainer.strategy.reduce(torch.tensor(numbers, device=trainer.strategy.root_device), reduce_op="max").tolist()


def _sums(task: SegmentationTask) -> dict[str, torch.Tensor]:
    """The sums of which the mean loss of the epoch is made."""
    return {name: torch.as_tensor(value) for name, value in task.mean_loss.metric_state.items()}
