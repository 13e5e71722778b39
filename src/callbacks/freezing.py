"""The freezing of the backbone, or of BatchNorm, in the first epochs."""

from typing import Any

import lightning as L
import torch
from torch import nn

from src.errors import UserError
from src.models.network import Network
from src.task import SegmentationTask
from src.training.batchnorm import batchnorm_layers, has_statistics


class Freezing(L.Callback):
    """Freezes parts of the network: no gradient, momentum or weight decay; BatchNorm normalises by its statistics.

    It depends only on the epoch, so that a resumed run continues as if it had not stopped.

    Args:
        backbone_epochs: number of first epochs in which the encoder is frozen, in evaluation mode.
        batchnorm_epochs: number of first epochs in which the BatchNorm layers that come with statistics (of pretrained
            or transferred weights) are frozen, with their scale and shift. A layer without statistics would normalise
            nothing.

    Raises:
        UserError: no backbone to freeze; no BatchNorm layer that has statistics.
    """

    def __init__(self, backbone_epochs: int, batchnorm_epochs: int) -> None:
        self.backbone_epochs, self.batchnorm_epochs = backbone_epochs, batchnorm_epochs
        self._measured: list[str] = []  # BatchNorm layers that came with statistics
        self._state: tuple[bool, bool] | None = None  # whether the backbone and BatchNorm are frozen
        self._backbone: list[nn.Parameter] = []
        self._batchnorm: list[nn.Parameter] = []

    def on_fit_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        network = task.network
        assert isinstance(network, Network)
        if self.backbone_epochs:
            if (encoder := network.encoder) is None:
                raise UserError(
                    f"freeze.backbone_epochs={self.backbone_epochs}: this network has no backbone; set it to 0"
                )
            self._backbone = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        if self.batchnorm_epochs:
            layers = batchnorm_layers(network)
            if not self._measured:
                self._measured = [name for name, layer in layers.items() if has_statistics(layer)]
            if not self._measured:
                raise UserError(
                    f"freeze.batchnorm_epochs={self.batchnorm_epochs}: no BatchNorm layer of this network has "
                    "statistics yet, and with the initial ones it would normalise nothing; start from weights that "
                    "have statistics (backbone.weights, init_from), or set it to 0"
                )
            scales_and_shifts = (parameter for name in self._measured for parameter in layers[name].parameters())
            self._batchnorm = [parameter for parameter in scales_and_shifts if parameter.requires_grad]

    def on_train_batch_start(self, trainer: L.Trainer, task: SegmentationTask, *args: Any) -> None:
        backbone = trainer.current_epoch < self.backbone_epochs
        batchnorm = trainer.current_epoch < self.batchnorm_epochs
        if (backbone, batchnorm) == self._state:
            return
        self._state = (backbone, batchnorm)
        network = task.network
        assert isinstance(network, Network)
        if self._backbone and network.encoder is not None:
            network.encoder.train(not backbone)
        layers = batchnorm_layers(network)
        for name in self._measured:
            in_backbone = name.startswith("architecture.encoder.")
            layers[name].train(not (batchnorm or (backbone and in_backbone)))
        frozen = {id(parameter) for parameter in self._frozen()}
        for parameter in (*self._backbone, *self._batchnorm):
            # DDP waits for a gradient of every parameter that required one when it was wrapped; the gradients of frozen
            # ones are then dropped instead, below.
            parameter.requires_grad_(trainer.world_size > 1 or id(parameter) not in frozen)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, task: SegmentationTask, optimizer: torch.optim.Optimizer
    ) -> None:
        # Before gradients are clipped. An optimizer changes neither a parameter without a gradient nor its state.
        for parameter in self._frozen():
            parameter.grad = None

    def _frozen(self) -> list[nn.Parameter]:
        backbone, batchnorm = self._state or (False, False)
        return (self._backbone if backbone else []) + (self._batchnorm if batchnorm else [])

    def state_dict(self) -> dict[str, Any]:
        return {"measured": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._measured = state_dict["measured"]
