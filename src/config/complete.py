"""Completes a configuration: fills in the values that data and command line decide, and checks the others.

Nothing here imports torch, so that a wrong value is answered in about a second.
"""

import logging
import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.config.build import build_source
from src.config.checks import check_given, check_ranges, one_of
from src.config.flat import flatten, literal, to_dict
from src.config.kinds import is_number
from src.config.normalisation import check_statistics, settle_normalisation
from src.data.fingerprint import training_fingerprints
from src.data.folds import Folds
from src.data.packed import attach
from src.data.reading import read_size
from src.data.source import Sample, Source
from src.data.statistics import check_any_label, class_weights, training_statistics
from src.errors import UserError
from src.machine import is_first_process
from src.models.init import check_scheme
from src.models.packaged import WEIGHTS as PACKAGE
from src.models.packaged import find_packaged
from src.reports.results_csv import FIGURES
from src.runs.origin import content_digest, find_origin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A complete configuration, not resolved, with the dataset that it names, which is built once per process."""

    config: DictConfig
    source: Source
    folds: Folds


def complete(cfg: DictConfig) -> Prepared:
    """Returns a completed copy of a composed configuration, and its dataset.

    Values are checked before data are read.

    Raises:
        UserError: a missing value, missing data, a backbone for a network without one, a value of another kind or out
            of range, no labelled pixel to validate on, no figure to choose the best checkpoint by.
    """
    check_given(cfg)
    check_ranges(cfg)
    cfg = deepcopy(cfg)
    settle_backbone(cfg)
    check_auxiliary(cfg)
    choices = HydraConfig.get().runtime.choices
    groups = ("data", "model", *(["backbone"] if "backbone" in cfg.model else []), "experiment", "scale")
    cfg.choices = {group: choices[group] for group in groups if choices.get(group)}
    check_scheme(cfg.init)
    check_statistics(cfg.data)
    if cfg.init_from is not None:
        cfg.init_source = literal(asdict(find_origin(cfg.init_from)))
    _widen_padding(cfg)
    source, folds = build_source(cfg)
    attach(source, cfg.data.pack)  # a stale pack is refused before torch is loaded
    samples = {split: folds.samples(source, split) for split in ("train", folds.validation_split)}
    cfg.data.classes = {name: list(colour) for name, colour in source.classes.items()}
    check_monitor(OmegaConf.select(cfg, "callbacks.checkpoints.monitor"), source.classes)
    cfg.data.fingerprint = training_fingerprints(source, folds)
    cfg.weight_digests = _weight_digests(cfg)
    for split, found in samples.items():
        check_any_label(source, found, split)
    cfg.data.image_size = list(_image_size(source, samples["train"][0]))
    _fill_class_weights(cfg, source, samples["train"])
    settle_normalisation(cfg)  # last, for it may load torch
    return Prepared(cfg, source, folds)


def check_monitor(monitor: Any, classes: Iterable[str]) -> None:
    """Raises UserError unless the best checkpoint is that of a figure that is better if it is higher."""
    known = [*(f"val/{name}" for name in FIGURES), *(f"val/iou/{name}" for name in classes)]
    one_of("callbacks.checkpoints.monitor", monitor, known)


def model_weights(cfg: DictConfig) -> list[Path]:
    """Returns the files of weights that a network begins with: of its backbone, of a teacher."""
    return [path for value in _weight_settings(cfg).values() if (path := Path(value).expanduser()).is_file()]


def _weight_settings(cfg: DictConfig) -> dict[str, str]:
    model = flatten(to_dict(cfg.model, resolve=True))
    return {key: value for key, value in model.items() if key.split(".")[-1] == "weights" and isinstance(value, str)}


def _weight_digests(cfg: DictConfig) -> list[str] | None:
    """Hashes the files of weights that the network is built with; of those that `init_from` replaces, none.

    Raises:
        UserError: there is no such file.
    """
    digests = []
    for key, value in _weight_settings(cfg).items():
        if value in ("imagenet", PACKAGE) or (cfg.init_from is not None and key in ("backbone.weights", "weights")):
            continue
        if not (path := Path(value).expanduser()).is_file():
            is_own = key.startswith("backbone.")
            name, others = (key, "imagenet, package, ") if is_own else (f"model.{key}", "")
            raise UserError(f"{name}={value}: no such file; give a .safetensors or .pth file, {others}or null")
        digests.append(content_digest(path))
    return digests or None


def _widen_padding(cfg: DictConfig) -> None:
    """Adds the mean of a fourth channel to the colour of the padding, 0 after normalisation."""
    fill = OmegaConf.select(cfg, "augmentation.geometry.fill")
    if cfg.data.channels == 4 and fill is not None and len(fill) == 3:
        cfg.augmentation.geometry.fill = [*fill, round(255 * cfg.data.mean[3])]


def _image_size(source: Source, sample: Sample) -> tuple[int, int]:
    """Returns height and width of an image; from the header of its file, if it has one."""
    if sample.image is not None and sample.image.is_file():
        return read_size(sample.image, upright=True)
    return source.open(sample).size


def settle_backbone(cfg: DictConfig) -> None:
    """Removes the backbone of a network that takes none.

    Raises:
        UserError: the command line chose it in vain, or the package that has its weights is not installed.
    """
    choices, words = HydraConfig.get().runtime.choices, HydraConfig.get().overrides.task
    given = [word for word in words if word.startswith("backbone")]
    if choices.get("scale") == "tiny" and (whole := [word for word in given if word.startswith("backbone=")]):
        raise UserError(f"{whole[0]}: scale=tiny puts the smallest of its family in its place; give backbone.name=...")
    if "backbone" not in cfg.model:
        if given:
            raise UserError(f"{given[0]}: model={choices['model']} has no backbone to choose; leave it out")
        cfg.backbone = None
    elif cfg.backbone.weights == PACKAGE and cfg.init_from is None:
        find_packaged(cfg.backbone.name)


def check_auxiliary(cfg: DictConfig) -> None:
    """Raises UserError if the command line weighs auxiliary outputs of a network that has none."""
    given = [word for word in HydraConfig.get().overrides.task if word.startswith("loss.aux_weight=")]
    if given and not cfg.model.get("aux"):
        remedy = "set model.aux=true, or leave it out" if "aux" in cfg.model else "leave it out"
        model = HydraConfig.get().runtime.choices["model"]
        raise UserError(f"{given[0]}: model={model} has no auxiliary output here; {remedy}")


def _fill_class_weights(cfg: DictConfig, source: Source, samples: list[Sample]) -> None:
    """Replaces the name of each weighting by its weights, so that the run's config and identity hold the numbers.

    Raises:
        UserError: an unknown name, a list of other than one weight per class, weights that are no numbers of at least
            0 or all 0, no labelled pixel in train.
    """
    for key, given in flatten(to_dict(cfg.loss, resolve=True), "loss").items():
        if not key.endswith(".class_weights"):
            continue
        if isinstance(given, str):
            weights = class_weights(given, training_statistics(source, samples))
            OmegaConf.update(cfg, key, weights)
            if is_first_process():
                text = ", ".join(f"{c} {weight:.3g}" for c, weight in zip(source.classes, weights, strict=True))
                log.info("%s: %s of %d images: %s", key, given, len(samples), text)
        elif isinstance(given, list) and len(given) != source.num_classes:
            raise UserError(
                f"{key} has {len(given)} values; {source.labels} has {source.num_classes} classes: "
                f"{', '.join(source.classes)}"
            )
        elif given is not None and not (isinstance(given, list) and all(map(_is_weight, given)) and any(given)):
            raise UserError(
                f"{key}={given}: must be null, the name of a weighting, or a list of one number per class, none below "
                "0 and one above"
            )


def _is_weight(value: Any) -> bool:
    return is_number(value) and 0 <= value < math.inf
