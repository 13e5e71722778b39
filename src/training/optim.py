"""The parameter groups of an optimizer, with their learning rates and weight decay."""

import re
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from src.errors import UserError
from src.models.network import Network

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
    """Builds an optimizer over the groups `backbone` and `head`, each with a part without weight decay.

    Args:
        optimizer: torch's class with its own options bound (momentum, betas).
        weight_decay: of the parts with weight decay.
        backbone_lr_scale: factor on `lr` for the encoder.
        head_lr_scale: factor on `lr` for all the rest.
        decay_norm_and_bias: whether one-dimensional parameters (norms, biases) decay too, and those that the encoder
            itself names (`no_weight_decay`: the tokens and positions of a ViT).
        layer_decay: factor per layer, from the last layer of a timm encoder (once) to its stem (Bao et al. 2022, BEiT);
            the backbone's groups are then `backbone/layer_00` (the stem) and following.

    Raises:
        UserError: a negative factor, or one for a backbone or a head if the network has no encoder; an encoder whose
            layers are unknown; an option that torch's class refuses.
    """
    encoder = network.encoder
    for key, scale in (("backbone_lr_scale", backbone_lr_scale), ("head_lr_scale", head_lr_scale)):
        if scale < 0:
            raise UserError(f"optimizer.{key}={scale}: must not be negative")
        if encoder is None and scale != 1:
            raise UserError(
                f"optimizer.{key}={scale}: this network has no backbone, so it is all one group; set it to 1 and "
                "choose optimizer.lr"
            )
    layers = _layers(encoder, layer_decay) if layer_decay is not None else {}
    depth = max(layers.values(), default=0) + 1
    in_backbone = {id(parameter): name for name, parameter in encoder.named_parameters()} if encoder is not None else {}
    model: Any = getattr(encoder, "model", None)  # timm's
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()

    groups: dict[str, dict[str, Any]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        own = in_backbone.get(id(parameter))
        name, rate = ("head", lr * head_lr_scale) if own is None else ("backbone", lr * backbone_lr_scale)
        if own is not None and layer_decay is not None:
            name, rate = f"backbone/layer_{layers[own]:02d}", rate * layer_decay ** (depth - layers[own])
        is_spared = own is not None and own.removeprefix("model.") in spared
        decays = decay_norm_and_bias or (parameter.ndim > 1 and not is_spared)
        name = name if decays else name + NO_DECAY
        group = {"params": [], "name": name, "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault(name, group)["params"].append(parameter)
    try:
        return optimizer([group for _, group in sorted(groups.items())], lr=lr)
    except ValueError as error:
        raise UserError(f"optimizer.optimizer: {error}; give another value of optimizer.optimizer.KEY") from error


def _layers(encoder: nn.Module | None, layer_decay: float) -> dict[str, int]:
    """Finds the layer of each of an encoder's parameters by name, 0 for the stem, from timm's `group_matcher`.

    Raises:
        UserError: no encoder, one that is not timm's or has no matcher, a factor outside (0, 1].
    """
    given = f"optimizer.layer_decay={layer_decay}"
    if not 0 < layer_decay <= 1:
        raise UserError(f"{given}: must be above 0 and at most 1, or null")
    model: Any = getattr(encoder, "model", None)
    matcher = _group_matcher(model, getattr(encoder, "name", None))
    if matcher is None:
        reason = "this network has no backbone" if encoder is None else "the layers of this backbone are unknown"
        raise UserError(
            f"{given}: {reason}; set it to null, or choose one of timm's backbones (backbone=vit_base, convnext_tiny, "
            "swin_tiny, or backbone.name=tu-...)"
        )
    from timm.models._manipulate import group_with_matcher

    # In a model of features only, timm renames stages.0 to stages_0.
    names = {name: re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name) for name, _ in model.named_parameters()}
    layers: Any = group_with_matcher(((name, None) for name in names.values()), matcher, reverse=True)
    return {f"model.{name}": layers[original] for name, original in names.items()}


def _group_matcher(model: Any, name: str | None) -> dict | None:
    """Returns the regular expressions of a timm model's layers; for a model of features only, those of the whole."""
    import timm
    import torch

    if not hasattr(model, "group_matcher"):
        if model is None or name is None or not timm.is_model(name):
            return None
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False)
    return model.group_matcher(coarse=False) if hasattr(model, "group_matcher") else None
