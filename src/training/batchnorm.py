"""The exact measuring of BatchNorm's statistics for weights that no training step had: averages of weights."""

from collections.abc import Collection, Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.errors import UserError


@torch.no_grad()
def remeasure(network: nn.Module, batches: Iterable[Tensor], skip: Collection[str] = ()) -> int:
    """Sets the running mean and variance of every BatchNorm layer to those of its input over all images given.

    In one pass each layer normalises by its batch, as in training, and everything else is as in evaluation (no
    dropout). The result is no running average: it sums over all batches, and over all processes of a distributed run.
    A layer that evaluation does not reach (auxiliary heads) keeps its statistics. Modes are restored.

    Args:
        network: takes the batches; on any device.
        batches: images uint8 `(B, 3, H, W)` of any size on any device; if a layer pools to one cell, B must be above 1.
        skip: names of layers in `network.named_modules()` that keep their statistics and normalise by them.

    Returns:
        The number of images that this process saw.

    Raises:
        UserError: no images; a batch in which a layer has one value per channel, whose variance is 0.
    """
    layers = {name: layer for name, layer in batchnorm_layers(network).items() if name not in skip}
    modes = {module: module.training for module in network.modules()}
    tallies: dict[str, _Moments] = {}
    hooks = [layer.register_forward_pre_hook(partial(_record, name, tallies)) for name, layer in layers.items()]
    device = next(network.parameters()).device
    images = 0
    try:
        network.eval()
        for layer in layers.values():
            layer.train()
            layer.track_running_stats = False  # the old statistics stay until all are measured
        for batch in batches:
            network(batch.to(device))
            images += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        for layer in layers.values():
            layer.track_running_stats = True
    if images == 0:
        raise UserError("BatchNorm cannot be measured again on no images; give at least one batch")
    for name, moments in tallies.items():
        running_mean, running_var = layers[name].running_mean, layers[name].running_var
        assert running_mean is not None
        assert running_var is not None
        mean, variance = moments.reduce()
        running_mean.copy_(mean)
        running_var.copy_(variance)
    return images


def batchnorm_layers(network: nn.Module) -> dict[str, _BatchNorm]:
    """Finds the BatchNorm layers (synchronised ones too) that keep statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def has_statistics(layer: _BatchNorm) -> bool:
    """Whether a BatchNorm layer's statistics differ from the mean 0 and variance 1 with which it starts."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return bool((layer.running_mean != 0).any() or (layer.running_var != 1).any())


class _Moments:
    """Count, mean and sum of squared deviations `(C,)`, joined batch by batch (Chan et al. 1979)."""

    def __init__(self, x: Tensor) -> None:
        # MPS has no float64.
        self.dtype = torch.float32 if x.device.type == "mps" else torch.float64
        self.count = 0
        self.mean = torch.zeros(x.shape[1], dtype=self.dtype, device=x.device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, x: Tensor) -> None:
        """Adds values `(B, C, ...)`."""
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.float(), dim=(0, *range(2, x.ndim)), correction=0)
        delta = mean.to(self.dtype) - self.mean
        total = self.count + count
        self.mean += delta * (count / total)
        self.squares += variance.to(self.dtype) * count + delta**2 * (self.count * count / total)
        self.count = total

    def reduce(self) -> tuple[Tensor, Tensor]:
        """Computes mean and unbiased variance over all processes."""
        count, mean, squares = self.count, self.mean, self.squares
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            sums = torch.cat([mean.new_tensor([count]), mean * count])
            dist.all_reduce(sums)
            count, mean = int(sums[0]), sums[1:] / sums[0]
            squares = squares + (self.mean - mean) ** 2 * self.count
            dist.all_reduce(squares)
        return mean, squares / (count - 1)


def _record(name: str, tallies: dict[str, _Moments], layer: nn.Module, inputs: tuple[Tensor]) -> None:
    """Adds a layer's input to its moments; a hook."""
    (x,) = inputs
    if x.numel() == x.shape[1]:
        raise UserError(
            f"BatchNorm layer {name} has one value per channel in a batch of one image; measure it on batches of two "
            "or more"
        )
    tallies.setdefault(name, _Moments(x)).add(x)
