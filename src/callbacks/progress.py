"""The progress bar: loss, mIoU, images per second."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


class Progress(TQDMProgressBar):
    """Adds the training speed to Lightning's bar: images per second over all devices, waiting for data included.

    In a log file each refresh is a line, so that there are only two per epoch.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=1)
        self._images = 0
        self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        if not sys.stderr.isatty():
            self._refresh_rate = max(1, int(trainer.num_training_batches) // 2)
        super().on_train_start(trainer, *args)

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

    def get_metrics(self, trainer: L.Trainer, task: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, task)
        metrics.pop("v_num", None)
        return {name: value if isinstance(value, str) else float(f"{value:.4g}") for name, value in metrics.items()}
