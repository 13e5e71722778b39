"""Holding the backbone, or BatchNorm, still for the first epochs."""

from typing import Any

import lightning as L
import torch
from torch import nn

from src.errors import UserError
from src.training.batchnorm import batchnorm_layers


class Freezing(L.Callback):
    """What is frozen is as it was: no gradient, no momentum, no weight decay, BatchNorm by its statistics.

    A function of the epoch alone, so that a resumed run goes on as if it had not stopped.

    Args:
        backbone_epochs: first epochs in which the encoder is held, in evaluation mode.
        batchnorm_epochs: first epochs in which the BatchNorm layers that come with statistics (of pretrained or
            transferred weights) are held, their scale and shift too. One that has none yet would normalise nothing.

    Raises:
        UserError: no backbone to hold; no BatchNorm layer that has statistics.
    """

    def __init__(self, backbone_epochs: int, batchnorm_epochs: int) -> None:
        self.backbone_epochs = backbone_epochs
        self.batchnorm_epochs = batchnorm_epochs
        self._measured: list[str] = []  # BatchNorm layers that came with statistics
        self._held: tuple[bool, bool] | None = None
        self._backbone: list[nn.Parameter] = []
        self._batchnorm: list[nn.Parameter] = []

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        network = task.network
        if self.backbone_epochs:
            encoder = getattr(network.architecture, "encoder", None)
            if encoder is None:
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
                    "statistics yet, and held at their initial ones they would normalise nothing; start from weights "
                    "that have them (backbone.weights, init_from), or set it to 0"
                )
            self._batchnorm = [
                parameter
                for name in self._measured
                for parameter in layers[name].parameters()
                if parameter.requires_grad
            ]

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
        held = (trainer.current_epoch < self.backbone_epochs, trainer.current_epoch < self.batchnorm_epochs)
        if held == self._held:
            return
        self._held = held
        if self._backbone:
            task.network.architecture.encoder.train(not held[0])
        layers = batchnorm_layers(task.network)
        for name in self._measured:
            in_backbone = name.startswith("architecture.encoder.")
            layers[name].train(not (held[1] or (held[0] and in_backbone)))
        still = {id(parameter) for parameter in self._still()}
        for parameter in (*self._backbone, *self._batchnorm):
            # DDP waits for the gradient of whatever wanted one when it was wrapped: there they are dropped instead.
            parameter.requires_grad_(trainer.world_size > 1 or id(parameter) not in still)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, task: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        # Before gradients are clipped. An optimizer leaves what has no gradient as it is, its state too.
        for parameter in self._still():
            parameter.grad = None

    def _still(self) -> list[nn.Parameter]:
        backbone, batchnorm = self._held or (False, False)
        return (self._backbone if backbone else []) + (self._batchnorm if batchnorm else [])

    def state_dict(self) -> dict[str, Any]:
        return {"measured": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._measured = state_dict["measured"]


def has_statistics(layer: nn.Module) -> bool:
    """Whether a BatchNorm layer's statistics are other than the mean 0 and variance 1 that it starts with."""
    return bool((layer.running_mean != 0).any() or (layer.running_var != 1).any())
