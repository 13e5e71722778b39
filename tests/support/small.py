"""A training in this process in a second: the project's own parts with a small network and a few drawn scenes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from src.callbacks.checkpoints import BestAndLast
from src.data.datamodule import SegmentationDataModule
from src.data.streets.source import Streets
from src.losses.combined import CombinedLoss
from src.losses.cross_entropy import CrossEntropy
from src.models.network import Network
from src.task import SegmentationTask
from src.training.optim import build_optimizer
from src.training.schedules import constant

CLASSES = list(Streets.classes)


class Small(nn.Module):
    """An encoder and a head, each with BatchNorm, and dropout between; stride 4."""

    align_corners = False
    divisor = 4

    def __init__(self, batchnorm: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if batchnorm else lambda channels: nn.Identity()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), norm(8), nn.ReLU())
        self.head = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), norm(8), nn.ReLU(), nn.Dropout2d(dropout), nn.Conv2d(8, len(CLASSES), 1)
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.head(self.encoder(image)),)


class StopAt(L.Callback):
    """Raises in the middle of an epoch, in place of a kill."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
        if (trainer.current_epoch, trainer.fit_loop.batch_idx) == self.at:
            raise KilledError


class KilledError(Exception):
    pass


class Rates(L.Callback):
    """Records the learning rates of all groups by (epoch, batch), with which the step is made."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], list[float]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen[trainer.current_epoch, batch_idx] = [group["lr"] for group in trainer.optimizers[0].param_groups]


sgd = partial(build_optimizer, optimizer=partial(torch.optim.SGD, momentum=0.9), lr=0.05, weight_decay=1e-2)
steady = partial(constant, warmup_epochs=0)
adamw = partial(build_optimizer, optimizer=torch.optim.AdamW, lr=0.01, weight_decay=1e-2)


def small_task(
    optimizer: Callable = adamw,
    scheduler: Callable = steady,
    architecture: Callable[[], nn.Module] = Small,
    terms: dict | None = None,
) -> SegmentationTask:
    L.seed_everything(0, verbose=False)
    network = Network(architecture(), [0.5] * 3, [0.25] * 3)
    loss = CombinedLoss(terms or {"ce": {"weight": 1.0, "loss": CrossEntropy()}})
    return SegmentationTask(network, loss, optimizer, scheduler, {}, CLASSES, seed=0)


def small_data(num_train: int = 6, batch_size: int = 2) -> SegmentationDataModule:
    source = Streets(size=(64, 64), num_train=num_train, num_val=2)
    return SegmentationDataModule(source, None, batch_size, 1, 0, seed=0)


def small_trainer(folder: Path, callbacks: Sequence[L.Callback] = (), epochs: int = 3, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*callbacks, BestAndLast(str(folder), "val/miou", options.pop("every_minutes", None))],
        logger=options.pop("logger", False),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        use_distributed_sampler=False,
        **options,
    )


def fit(
    folder: Path,
    task: SegmentationTask,
    callbacks: Sequence[L.Callback] = (),
    data: SegmentationDataModule | None = None,
    **options: Any,
) -> L.Trainer:
    """Trains, from the folder's last checkpoint if it has one."""
    trainer = small_trainer(folder, callbacks, **options)
    last = folder / "last.ckpt"
    trainer.fit(task, data or small_data(), ckpt_path=last if last.is_file() else None, weights_only=True)
    return trainer


def checkpoint(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / f"{name}.ckpt", weights_only=True)


def differing(a: Any, b: Any, path: str = "") -> list[str]:
    """Lists the paths at which two nested structures of tensors and numbers are not bitwise the same."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [path]
        return [found for key in a for found in differing(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differing(*pair, f"{path}.{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    return [] if same else [path]
