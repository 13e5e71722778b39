"""Averages of the weights, which are validated, kept as the best and evaluated instead of the weights themselves."""

import copy
import itertools
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from src.errors import UserError, whole
from src.models.network import Network
from src.task import SegmentationTask
from src.training.batchnorm import batchnorm_layers, remeasure

log = logging.getLogger(__name__)
TRAINED = "trained_state_dict"  # in a checkpoint: the weights that training goes on from
AVERAGED = "averaged_state_dict"  # or, within an epoch, the average, whose BatchNorm has not been measured yet


class WeightAverage(L.Callback, ABC):
    """Keeps an average of the network's weights beside it, with BatchNorm measured on training images every epoch.

    From the first update on, validation, panels, `val/miou` and the `state_dict` of both checkpoints are those of the
    average; before it they are those of the weights. Both checkpoints also hold the weights, from which training
    resumes. A last checkpoint of the middle of an epoch has it the other way round: its `state_dict` is the weights.

    It does not derive from Lightning's WeightAveraging (2.6.6), since it would override every hook but `setup`. That
    class validates and saves its average before the first update too, which is then the initial weights (PL #21724);
    updates once per epoch only after the validation; copies all tensors at every swap; leaves the average in the
    module at the end of training; and does not measure BatchNorm.

    Args:
        batchnorm_images: number of training images, augmented and cropped as in the first epoch, on which BatchNorm is
            measured; all of the training split if it has fewer.

    Raises:
        UserError: fewer than one image.
    """

    average: Network  # the averaged network, from the start of training on

    def __init__(self, batchnorm_images: int) -> None:
        self.batchnorm_images = whole("averaging.batchnorm_images", batchnorm_images, 1)
        self.count = 0  # of updates
        self._trained: Network | None = None  # the network itself, while the average stands in its place
        self._loaded: dict[str, Tensor] | None = None
        self._step = 0
        self._is_measured = False
        self._frozen: list[str] = []

    @abstractmethod
    def share(self, trainer: L.Trainer) -> float | None:
        """The share in the average of the weights after the step just made; None leaves them out."""

    def on_fit_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        assert isinstance(task.network, Network)
        self.average = copy.deepcopy(task.network).eval().requires_grad_(False)
        if self._loaded is not None:
            self.average.load_state_dict(self._loaded)
            self._loaded = None

    def on_train_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, task: SegmentationTask, *args: Any) -> None:
        has_stepped, self._step = trainer.global_step > self._step, trainer.global_step
        share = self.share(trainer) if has_stepped else None
        if share is not None:
            assert isinstance(task.network, Network)
            self._update(task.network, share if self.count else 1.0)
            layers = batchnorm_layers(task.network)
            self._frozen = [name for name, layer in layers.items() if not layer.training]
        if trainer.is_last_batch and self.count:
            task.check_finite()
            self._measure(trainer, task)

    @torch.no_grad()
    def _update(self, network: Network, share: float) -> None:
        averages = [parameter.data for parameter in self.average.parameters()]
        weights = [parameter.data for parameter in network.parameters()]
        if share == 1:
            torch._foreach_copy_(averages, weights)  # pyright: ignore[reportPrivateImportUsage]
        else:
            torch._foreach_lerp_(averages, weights, share)  # pyright: ignore[reportPrivateImportUsage]
        self.count += 1
        self._is_measured = False

    def _measure(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        """Copies the network's buffers to the average, then measures BatchNorm's statistics anew."""
        if self._is_measured:
            return
        for averaged, trained in zip(self.average.buffers(), task.network.buffers(), strict=True):
            averaged.copy_(trained)
        if set(batchnorm_layers(self.average)) - set(self._frozen):
            with trainer.precision_plugin.val_step_context():
                remeasure(self.average, self._images(trainer), skip=self._frozen)
        self._is_measured = True

    def _images(self, trainer: L.Trainer) -> Iterator[Tensor]:
        """Yields the same images in every epoch, whatever the epoch trained on."""
        loader = trainer.datamodule.train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]
        loader.sampler.begin(0)
        num_batches = math.ceil(self.batchnorm_images / (loader.batch_size * trainer.world_size))
        for batch in itertools.islice(loader, num_batches):
            yield trainer.strategy.batch_to_device(batch)["image"]

    def on_validation_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self.count:
            self._measure(trainer, task)
            assert isinstance(task.network, Network)
            self._trained, task.network = task.network, self.average

    def on_validation_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        if self._trained is not None:
            task.network, self._trained = self._trained, None

    def on_train_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        if not self.count and trainer.is_global_zero:
            log.info("note: the training ended before averaging began: all figures are of the weights themselves")

    def on_save_checkpoint(self, trainer: L.Trainer, task: SegmentationTask, checkpoint: dict[str, Any]) -> None:
        if not self.count:
            return
        averaged = {f"network.{name}": value for name, value in self.average.state_dict().items()}
        if self._is_measured:
            checkpoint[TRAINED] = {name: checkpoint["state_dict"][name] for name in averaged}
            checkpoint["state_dict"] = checkpoint["state_dict"] | averaged
        else:
            checkpoint[AVERAGED] = averaged

    def on_load_checkpoint(self, trainer: L.Trainer, task: SegmentationTask, checkpoint: dict[str, Any]) -> None:
        state, trained = checkpoint["state_dict"], checkpoint.get(TRAINED, {})
        averaged = checkpoint.get(AVERAGED) or {name: state[name] for name in trained}
        if averaged:
            self._is_measured = bool(trained)
            self._loaded = {name.removeprefix("network."): value.clone() for name, value in averaged.items()}
            task.load_state_dict(state | trained)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class ExponentialAverage(WeightAverage):
    """EMA: after each optimiser step, average = d average + (1 - d) weights, from the weights of the first step on.

    d is the smaller of `decay` and (1 + n) / (10 + n) after n updates; otherwise the average of a short run would be
    that of its beginning.

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
    """SWA (Izmailov et al. 2018): the mean of the weights at the ends of epochs, after the share `start` of a run.

    Raises:
        UserError: a share outside [0, 1).
    """

    def __init__(self, start: float, batchnorm_images: int) -> None:
        super().__init__(batchnorm_images)
        if not 0 <= start < 1:
            raise UserError(f"averaging.start={start}: must be at least 0 and below 1")
        self.start = start

    def share(self, trainer: L.Trainer) -> float | None:
        assert trainer.max_epochs is not None
        due = trainer.is_last_batch and trainer.current_epoch >= int(self.start * trainer.max_epochs)
        return 1 / (self.count + 1) if due else None
