"""The progress of a training: a bar, or one line per epoch, with loss, mIoU and images per second."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

log = logging.getLogger(__name__)


class Speed(L.Callback):
    """Logs the training speed: images per second over all devices, waiting for data included, without validation."""

    def __init__(self) -> None:
        super().__init__()
        self._images = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._images, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch["image"]) * trainer.world_size
        every_n = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  # set by Lightning's connector
        if trainer.is_last_batch or (batch_idx + 1) % every_n == 0:
            speed = self._images / (time.perf_counter() - self._since)
            task.log("train/images_per_s", speed, prog_bar=True, batch_size=1)
        super().on_train_batch_end(trainer, task, outputs, batch, batch_idx)


class Progress(Speed, TQDMProgressBar):
    """Adds the training speed to Lightning's bar.

    In a log file each refresh is a line, so that there are only two per epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._refresh_rate = 1

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        if not sys.stderr.isatty():
            self._refresh_rate = max(1, int(trainer.num_training_batches) // 2)
        super().on_train_start(trainer, *args)

    def get_metrics(self, trainer: L.Trainer, task: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, task)
        metrics.pop("v_num", None)
        return {name: value if isinstance(value, str) else float(f"{value:.4g}") for name, value in metrics.items()}


class EpochLines(Speed):
    """Prints a line per epoch, for a training without a bar: its figures, and the time left for the other epochs."""

    def __init__(self) -> None:
        super().__init__()
        self._started, self._first = 0.0, 0

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._started, self._first = time.perf_counter(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        epochs, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        seconds = (time.perf_counter() - self._started) / (epochs - self._first) * (last - epochs)
        log.info("%s", epoch_line(epochs, last, trainer.callback_metrics, seconds))


def epoch_line(epoch: int, epochs: int, figures: Any, seconds_left: float) -> str:
    """Writes the line of an epoch, counted from 1, with those of its figures that there are."""
    formats = {"train/loss_epoch": "loss {:.4g}", "val/loss": "val loss {:.4g}", "val/miou": "val mIoU {:.4f}",
               "train/images_per_s": "{:.3g} images/s"}  # fmt: skip
    parts = [text.format(float(figures[name])) for name, text in formats.items() if name in figures]
    return f"epoch {epoch}/{epochs}: {', '.join([*parts, f'{timedelta(seconds=round(seconds_left))} left'])}"
