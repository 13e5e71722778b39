"""Averages of the weights, which are validated, kept as the best, and evaluated instead of the weights themselves."""

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from src.errors import UserError
from src.models.network import Network
from src.training.batchnorm import batchnorm_layers, remeasure

TRAINED = "trained_state_dict"  # in a checkpoint: the weights that training goes on from


class WeightAverage(L.Callback, ABC):
    """Keeps an average of the network's weights beside it, with BatchNorm measured on training images every epoch.

    From the first update on, validation, panels, `val/miou` and the `state_dict` of both checkpoints are the average's;
    before it they are the weights' own (Lightning 2.6.6's WeightAveraging then validates the initial weights, PL
    #21724). Both checkpoints also hold the weights themselves, from which training resumes.

    Args:
        batchnorm_images: training images, augmented and cropped as in the first epoch, that BatchNorm is measured on;
            all of the training split where it has no more.

    Raises:
        UserError: fewer than one image.
    """

    def __init__(self, batchnorm_images: int) -> None:
        if not isinstance(batchnorm_images, int) or batchnorm_images < 1:
            raise UserError(f"averaging.batchnorm_images={batchnorm_images}: must be a whole number, at least 1")
        self.batchnorm_images = batchnorm_images
        self.count = 0  # updates so far
        self.average: Network | None = None
        self._trained: Network | None = None  # where the average stands in the task's place: the network itself
        self._loaded: dict[str, Tensor] | None = None
        self._step = 0
        self._is_measured = False
        self._frozen: list[str] = []

    @abstractmethod
    def share(self, trainer: L.Trainer) -> float | None:
        """The share in the average of the weights that a step has just made; None: they have none."""

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.average = copy.deepcopy(task.network).eval().requires_grad_(False)
        if self._loaded is not None:
            self.average.load_state_dict(self._loaded)
            self._is_measured, self._loaded = True, None

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
        has_stepped, self._step = trainer.global_step > self._step, trainer.global_step
        share = self.share(trainer) if has_stepped else None
        if share is not None:
            self._update(task.network, share if self.count else 1.0)
            layers = batchnorm_layers(task.network)
            self._frozen = [name for name, layer in layers.items() if not layer.training]
        if trainer.is_last_batch and self.count:
            task.check_finite()
            self._measure(trainer, task)

    @torch.no_grad()
    def _update(self, network: Network, share: float) -> None:
        averages, weights = list(self.average.parameters()), list(network.parameters())
        if share == 1:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, share)
        self.count += 1
        self._is_measured = False

    def _measure(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if self._is_measured:
            return
        for ours, theirs in zip(self.average.buffers(), task.network.buffers(), strict=True):
            ours.copy_(theirs)
        if set(batchnorm_layers(self.average)) - set(self._frozen):
            with trainer.precision_plugin.val_step_context():
                remeasure(self.average, self._images(trainer), skip=self._frozen)
        self._is_measured = True

    def _images(self, trainer: L.Trainer) -> Iterator[Tensor]:
        """The same images in every epoch, whatever was trained on in it."""
        loader = trainer.datamodule.train_dataloader()
        loader.sampler.set_epoch(0)
        num_batches = math.ceil(self.batchnorm_images / (loader.batch_size * trainer.world_size))
        for batch in itertools.islice(loader, num_batches):
            yield trainer.strategy.batch_to_device(batch)["image"]

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self.count:
            self._measure(trainer, task)
            self._trained, task.network = task.network, self.average

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if self._trained is not None:
            task.network, self._trained = self._trained, None

    def on_save_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.count:
            ours = {f"network.{name}": value for name, value in self.average.state_dict().items()}
            checkpoint[TRAINED] = {name: checkpoint["state_dict"][name] for name in ours}
            checkpoint["state_dict"] = checkpoint["state_dict"] | ours

    def on_load_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if TRAINED in checkpoint:
            averaged, trained = checkpoint["state_dict"], checkpoint[TRAINED]
            self._loaded = {name.removeprefix("network."): averaged[name].clone() for name in trained}
            task.load_state_dict(averaged | trained)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class ExponentialAverage(WeightAverage):
    """EMA: after each optimiser step, average = d average + (1 - d) weights, from the weights of the first step on.

    d is the smaller of `decay` and (1 + n) / (10 + n) after n updates, or a short run's average would be that of its
    beginning.

    Raises:
        UserError: a decay outside (0, 1).
    """

    def __init__(self, decay: float, batchnorm_images: int) -> None:
        super().__init__(batchnorm_images)
        if not 0 < decay < 1:
            raise UserError(f"averaging.decay={decay}: must be above 0 and below 1")
        self.decay = decay

    def share(self, trainer: L.Trainer) -> float:
        return 1 - min(self.decay, (1 + self.count) / (10 + self.count))


class StochasticAverage(WeightAverage):
    """SWA (Izmailov et al. 2018): the mean of the weights at the end of each epoch from a share of the run on.

    Args:
        start: share of the run's epochs that are left out.

    Raises:
        UserError: a share outside [0, 1).
    """

    def __init__(self, start: float, batchnorm_images: int) -> None:
        super().__init__(batchnorm_images)
        if not 0 <= start < 1:
            raise UserError(f"averaging.start={start}: must be at least 0 and below 1")
        self.start = start

    def share(self, trainer: L.Trainer) -> float | None:
        due = trainer.is_last_batch and trainer.current_epoch >= int(self.start * trainer.max_epochs)
        return 1 / (self.count + 1) if due else None
