"""Settles by which mean and standard deviation images are normalised, and records whose they are."""

import math
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.flat import to_dict
from src.config.resolvers import CONF
from src.errors import UserError
from src.models.statistics import IMAGENET, Statistics, pretrained_statistics


def check_statistics(data: DictConfig) -> None:
    """Raises UserError unless `data.mean` and `data.std` are null or a number per channel each, the latter above 0.

    With other channels than RGB they must be given.
    """
    channels = data.get("channels", 3)
    for key, usual in (("mean", IMAGENET.mean), ("std", IMAGENET.std)):
        given = to_dict(data)[key]
        if given is None and channels != 3:
            raise UserError(
                f"data.channels={channels}: data.{key} must be {channels} numbers, for no pretraining has those of the "
                "fourth channel; python -m src.check prints those of train"
            )
        if given is None:
            continue
        if not isinstance(given, list) or not all(map(_is_number, given)):
            raise UserError(f"data.{key}={given}: must be numbers, such as {list(usual)}, or null")
        if len(given) != channels or (key == "std" and min(given) <= 0):
            above, names = " above 0" if key == "std" else "", "RGB" if channels == 3 else "the channels"
            raise UserError(f"data.{key}={given}: must be {channels} numbers{above}, for {names}")


def settle_normalisation(cfg: DictConfig) -> None:
    """Fills in `data.mean`, `data.std` and `normalised_by`; what was given stays.

    Both are numbers from here on, so that a run is evaluated, continued and exported with what it was trained with.
    Torch is loaded only for a backbone that conf/backbone does not have, or a source that is a bare file.
    """
    given = [key for key in ("mean", "std") if cfg.data[key] is not None]
    statistics, origin = (IMAGENET, "") if len(given) == 2 else _usual(cfg)
    for key, value in (("mean", statistics.mean), ("std", statistics.std)):
        if key not in given:
            cfg.data[key] = list(value)
    names = " and ".join(f"data.{key}" for key in given)
    cfg.normalised_by = names if len(given) == 2 else f"{names}, the other {origin}" if given else origin


def _usual(cfg: DictConfig) -> tuple[Statistics, str]:
    """Returns the statistics that suit a run's first weights, and whose they are."""
    if cfg.init_from is not None and (found := _of_source(Path(cfg.init_source.path))) is not None:
        return found, "of init_from"
    if cfg.backbone is None:
        return IMAGENET, "of ImageNet"
    if cfg.backbone.weights is None:
        return IMAGENET, "of ImageNet, as the backbone has random weights"
    return _of_backbone(cfg), f"of the pretraining of {cfg.backbone.name}"


def _of_backbone(cfg: DictConfig) -> Statistics:
    """Returns what a yaml of conf/backbone states for this name of a backbone; else the library is asked."""
    stated = to_dict(cfg.backbone)
    file = CONF / "backbone" / f"{cfg.choices.get('backbone')}.yaml"
    own = yaml.safe_load(file.read_text()) if file.is_file() else {}
    # With `backbone.name=...` the numbers beside it are those of another one, unless they were given too.
    numbers = [(stated.get(key), own.get(key)) for key in ("mean", "std")]
    if all(value and (stated["name"] == own.get("name") or value != usual) for value, usual in numbers):
        found = Statistics(tuple(stated["mean"]), tuple(stated["std"]))
    else:
        found = pretrained_statistics(stated["name"])
    cfg.backbone.mean, cfg.backbone.std = list(found.mean), list(found.std)
    return found


def _of_source(path: Path) -> Statistics | None:
    """Returns what a weights file was trained with: by the config of its run, or else by the tensors in it."""
    if (found := _of_run(path.parent.parent / "config.yaml")) is not None:
        return found
    from src.models.weights import normalisation_of, read_weights, strip

    try:
        tensors = normalisation_of(strip(read_weights(path)))
    except UserError:  # raised again when the weights are loaded
        return None
    if tensors is None or tensors[0].numel() != 3:
        return None
    return Statistics(*(tuple(round(v / 255, 6) for v in tensor.flatten().tolist()) for tensor in tensors))


def _of_run(path: Path) -> Statistics | None:
    """Returns what the configuration of a run states; None if there is none, or it does not have such numbers."""
    try:
        network = OmegaConf.select(OmegaConf.load(path), "task.network")
        numbers = [to_dict(network)[key] for key in ("mean", "std")]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError, OmegaConfBaseException):
        return None
    if not all(isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)) for value in numbers):
        return None
    return Statistics(*map(tuple, numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
