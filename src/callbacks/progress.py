"""The progress of a training: a bar on a terminal, lines in a log file, with loss, mIoU, speed and time left."""

import logging
import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

log = logging.getLogger(__name__)
EVERY_S = 60.0  # seconds between two lines within an epoch
GIB = 2**30
MAXRSS = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of getrusage(2)
FORMATS = {
    "train/loss_epoch": "loss {:.4g}", "train/loss": "loss {:.4g}", "val/loss": "val loss {:.4g}",
    "val/miou": "val mIoU {:.4f}", "train/images_per_s": "{:.3g} images/s",
}  # fmt: skip


class Speed(L.Callback):
    """Logs the training speed, waiting for data included, without validation, and the peak of memory.

    `train/images_per_s` is over all devices, `train/step_s` the mean seconds of a batch in this epoch,
    `train/memory_gib` the most that torch had allocated on the GPU, or that this process used of the CPU's memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._images = self._batches = 0  # in this epoch and session
        self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        if trainer.fit_loop.restarted_mid_epoch:  # Lightning does not start this epoch again
            self.on_train_epoch_start(trainer, *args)

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._images, self._batches, self._since = 0, 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch["image"]) * trainer.world_size
        self._batches += 1
        every_n = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  # set by Lightning's connector
        if trainer.is_last_batch or (batch_idx + 1) % every_n == 0:
            seconds = time.perf_counter() - self._since
            task.log("train/images_per_s", self._images / seconds, prog_bar=True, batch_size=1)
            task.log("train/step_s", seconds / self._batches, batch_size=1)
            task.log("train/memory_gib", peak_memory(task.device) / GIB, batch_size=1)
        super().on_train_batch_end(trainer, task, outputs, batch, batch_idx)


class Lines(Speed):
    """Logs one line per epoch, and within an epoch one per minute: figures, and the time left for the whole training.

    They are in the log of the run, too.

    Args:
        every_s: seconds between two lines within an epoch.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._started, self._first, self._written = 0.0, 0.0, 0.0
        self._validated: int | None = None  # the last epoch that was

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        self._started = self._written = time.perf_counter()
        self._first = epochs_done(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, task, outputs, batch, batch_idx)
        is_due = time.perf_counter() - self._written >= self._every_s
        if is_due and not trainer.is_last_batch and trainer.is_global_zero:
            batches = int(trainer.num_training_batches)
            figures = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
            self._write(trainer, figures, trainer.current_epoch + (batch_idx + 1) / batches, (batch_idx + 1, batches))

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        super().on_validation_end(trainer, task)
        self._validated = trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, task)
        if trainer.is_global_zero:
            # Lightning keeps the figures of earlier epochs.
            kinds = ("train/", "val/") if self._validated == trainer.current_epoch else ("train/",)
            figures = {name: value for name, value in trainer.callback_metrics.items() if name.startswith(kinds)}
            self._write(trainer, figures, trainer.current_epoch + 1, None)

    def _write(
        self, trainer: L.Trainer, figures: Mapping[str, Any], done: float, batches: tuple[int, int] | None
    ) -> None:
        self._written = time.perf_counter()
        epoch = trainer.current_epoch + 1
        # A bar would run into the line otherwise.
        with tqdm.external_write_mode(file=sys.stderr):
            log.info("%s", line(epoch, trainer.max_epochs or 0, figures, self.seconds_left(trainer, done), batches))

    def seconds_left(self, trainer: L.Trainer, done: float) -> float:
        """Returns the seconds left after `done` epochs of the run, by those of this session."""
        pace = (time.perf_counter() - self._started) / (done - self._first)
        return pace * ((trainer.max_epochs or 0) - done)


class Progress(Lines, TQDMProgressBar):
    """Adds the training speed and the time left for the whole training to Lightning's bar."""

    def get_metrics(self, trainer: L.Trainer, task: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, task)
        metrics.pop("v_num", None)
        shown = {name: value if isinstance(value, str) else float(f"{value:.4g}") for name, value in metrics.items()}
        if trainer.training and (done := epochs_done(trainer)) > self._first:
            shown["left"] = str(timedelta(seconds=round(self.seconds_left(trainer, done))))
        return shown


def epochs_done(trainer: L.Trainer) -> float:
    """Returns the epochs that are done, with the share of the one that is under way."""
    loop = trainer.fit_loop
    is_within = loop.epoch_progress.current.state_dict()["started"] > trainer.current_epoch
    batches = loop.epoch_loop.batch_progress.current.completed if is_within else 0
    return trainer.current_epoch + batches / int(trainer.num_training_batches)


def line(
    epoch: int, epochs: int, figures: Mapping[str, Any], seconds_left: float, batches: tuple[int, int] | None = None
) -> str:
    """Writes a line of progress with those of its figures that there are.

    Args:
        epoch: counted from 1.
        batches: those of the epoch that are done, and all of them; None at its end.
    """
    other = "train/loss" if batches is None else "train/loss_epoch"  # of the last step only; of the epoch before
    names = [name for name in FORMATS if name in figures and name != other]
    parts = [FORMATS[name].format(float(figures[name])) for name in names]
    within = f", batch {batches[0]}/{batches[1]}" if batches else ""
    left = f"{timedelta(seconds=round(seconds_left))} left"
    return f"epoch {epoch}/{epochs}{within}: {', '.join([*parts, left])}"


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes that torch had allocated on a GPU, or that this process had in the CPU's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS
