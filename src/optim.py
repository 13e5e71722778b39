"""Parameter groups, and learning rates by step."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from src.models.network import Network


def build_optimizer(
    network: Network,
    optimizer: Callable[..., Optimizer],
    lr: float,
    weight_decay: float,
    backbone_lr_scale: float = 1.0,
    head_lr_scale: float = 1.0,
    decay_norm_and_bias: bool = False,
) -> Optimizer:
    """An optimizer over the groups `backbone`, `head`, and of each the part without weight decay.

    Args:
        optimizer: torch's class with its own options bound (momentum, betas).
        lr: base learning rate.
        backbone_lr_scale, head_lr_scale: factors on it for the encoder and for all the rest.
        decay_norm_and_bias: whether one-dimensional parameters (norms, biases) decay too.

    Raises:
        ValueError: a backbone factor for a network without an encoder.
    """
    encoder = getattr(network.architecture, "encoder", None)
    if encoder is None and backbone_lr_scale != 1:
        raise ValueError(f"optimizer.backbone_lr_scale={backbone_lr_scale}: this network has no backbone; remove it")
    in_backbone = {id(parameter) for parameter in encoder.parameters()} if encoder is not None else set()
    groups: dict[str, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            name = "backbone" if id(parameter) in in_backbone else "head"
            decays = decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault(name if decays else f"{name}/no_decay", []).append(parameter)
    scale = {"backbone": backbone_lr_scale, "head": head_lr_scale}
    return optimizer(
        [
            {
                "params": parameters,
                "name": name,
                "lr": lr * scale[name.split("/")[0]],
                "weight_decay": 0.0 if name.endswith("no_decay") else weight_decay,
            }
            for name, parameters in sorted(groups.items())
        ],
        lr=lr,
    )


def poly(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, power: float, warmup_epochs: float) -> LambdaLR:
    """lr (1 - t / T)^power by step (Chen et al. 2017), after a linear warm-up; t and T count from the warm-up's end."""
    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: (1 - done) ** power)


def cosine(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float, floor: float
) -> LambdaLR:
    """Half a cosine from lr to `floor` times lr by step (Loshchilov & Hutter 2017), after a linear warm-up."""
    return _with_warmup(
        optimizer,
        total_steps,
        steps_per_epoch,
        warmup_epochs,
        lambda done: floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2,
    )


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float) -> LambdaLR:
    """lr throughout, after a linear warm-up."""
    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: 1.0)


def _with_warmup(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    curve: Callable[[float], float],
) -> LambdaLR:
    """Step i of the warm-up's W has (i + 1) / W of the learning rate; then `curve` of the fraction done, 0 to 1."""
    warmup = round(warmup_epochs * steps_per_epoch)
    if warmup >= total_steps:
        raise ValueError(
            f"scheduler.warmup_epochs={warmup_epochs}: {warmup} steps of the run's {total_steps}; lower it"
        )

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return curve(min(1.0, (step - warmup) / (total_steps - warmup)))

    return LambdaLR(optimizer, factor)
