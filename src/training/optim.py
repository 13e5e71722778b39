"""Parameter groups: which parameters have which learning rate and weight decay."""

import re
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from src.errors import UserError
from src.models.network import Network

# Where the configurations of earlier runs look for them.
from src.training.schedules import constant as constant
from src.training.schedules import cosine as cosine
from src.training.schedules import poly as poly

NO_DECAY = "/no_decay"


def build_optimizer(
    network: Network,
    optimizer: Callable[..., Optimizer],
    lr: float,
    weight_decay: float,
    backbone_lr_scale: float = 1.0,
    head_lr_scale: float = 1.0,
    decay_norm_and_bias: bool = False,
    layer_decay: float | None = None,
) -> Optimizer:
    """An optimizer over the groups `backbone`, `head`, and of each the part without weight decay.

    Args:
        optimizer: torch's class with its own options bound (momentum, betas).
        lr: base learning rate.
        backbone_lr_scale, head_lr_scale: factors on it for the encoder and for all the rest.
        decay_norm_and_bias: whether one-dimensional parameters (norms, biases) decay too, and what the encoder itself
            names (`no_weight_decay`: a ViT's tokens and positions).
        layer_decay: factor a layer, from the last of a timm encoder (once) to its stem (Bao et al. 2022, BEiT); the
            backbone's groups are then `backbone/layer_00` (the stem) and on.

    Raises:
        UserError: a factor for a backbone or a head where the network has no encoder; layers that cannot be told.
    """
    architecture = network.architecture
    encoder = getattr(architecture, "encoder", None)
    if encoder is None:
        _refuse_scales(backbone_lr_scale=backbone_lr_scale, head_lr_scale=head_lr_scale)
    layers = _layers(encoder, layer_decay) if layer_decay is not None else {}
    depth = max(layers.values(), default=0) + 1
    in_backbone = dict(_named(encoder)) if encoder is not None else {}
    spared = _spared(encoder) if encoder is not None else set()

    groups: dict[str, list[nn.Parameter]] = {}
    rates: dict[str, float] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        name, rate = "head", lr * head_lr_scale
        if id(parameter) in in_backbone:
            name, rate = "backbone", lr * backbone_lr_scale
            if layers:
                layer = layers[in_backbone[id(parameter)]]
                name, rate = f"backbone/layer_{layer:02d}", rate * layer_decay ** (depth - layer)
        decays = decay_norm_and_bias or (parameter.ndim > 1 and id(parameter) not in spared)
        name = name if decays else name + NO_DECAY
        groups.setdefault(name, []).append(parameter)
        rates[name] = rate
    return optimizer(
        [
            {
                "params": parameters,
                "name": name,
                "lr": rates[name],
                "weight_decay": 0.0 if name.endswith(NO_DECAY) else weight_decay,
            }
            for name, parameters in sorted(groups.items())
        ],
        lr=lr,
    )


def _refuse_scales(**scales: float) -> None:
    for key, scale in scales.items():
        if scale != 1:
            raise UserError(
                f"optimizer.{key}={scale}: this network has no backbone, so it is all one group; set it to 1 and "
                "choose optimizer.lr"
            )


def _named(encoder: nn.Module) -> list[tuple[int, str]]:
    return [(id(parameter), name) for name, parameter in encoder.named_parameters()]


def _spared(encoder: nn.Module) -> set[int]:
    """Ids of the parameters that timm says should not decay."""
    model = getattr(encoder, "model", None)
    names = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    return {id(parameter) for name, parameter in encoder.named_parameters() if name.removeprefix("model.") in names}


def _layers(encoder: nn.Module | None, layer_decay: float) -> dict[str, int]:
    """Layer of each of an encoder's parameters by name, 0 the stem, as timm's `group_matcher` tells it.

    Raises:
        UserError: no encoder, one that is not timm's or does not tell its layers, a factor outside (0, 1].
    """
    given = f"optimizer.layer_decay={layer_decay}"
    if not 0 < layer_decay <= 1:
        raise UserError(f"{given}: must be above 0 and at most 1, or null")
    model = getattr(encoder, "model", None)
    matcher = _group_matcher(model, getattr(encoder, "name", None)) if model is not None else None
    if matcher is None:
        what = "this network has no backbone" if encoder is None else "this backbone does not tell its layers"
        raise UserError(
            f"{given}: {what}; set it to null, or choose one of timm's backbones (backbone=vit_base, convnext_tiny, "
            "swin_tiny, or backbone.name=tu-...)"
        )
    from timm.models._manipulate import group_with_matcher

    # Where timm gives features alone, it renames stages.0 to stages_0.
    told = {name: re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name) for name, _ in model.named_parameters()}
    layers = group_with_matcher(((name, None) for name in told.values()), matcher, reverse=True)
    return {f"model.{name}": layers[as_timm] for name, as_timm in told.items()}


def _group_matcher(model: nn.Module, name: str | None) -> dict | None:
    """Regular expressions of a timm model's layers; those of the whole model, where this is its features alone."""
    import timm
    import torch

    if not hasattr(model, "group_matcher"):
        if name is None or not timm.is_model(name):
            return None
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False)
    return model.group_matcher(coarse=False) if hasattr(model, "group_matcher") else None
