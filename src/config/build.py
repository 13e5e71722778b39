"""Builds the parts of a run from its configuration, by Hydra's `instantiate`."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.checks import AUTO, has_several_devices
from src.config.flat import literal, to_dict
from src.config.precision import settle_precision
from src.data.folds import Folds
from src.data.frame import RGB, ImageForm
from src.data.grouping import regroup
from src.data.source import FileSource, Source
from src.errors import UserError
from src.machine import TRIAL_VARIABLE, spare_hub_retries
from src.runs.origin import Origin
from src.runs.study import Place

if TYPE_CHECKING:
    from src.data.datamodule import SegmentationDataModule
    from src.task import SegmentationTask


def build_dataset(dataset: DictConfig, data: DictConfig, **changes: Any) -> Source:
    """Builds a dataset with the classes that `data.merge` and `data.ignore` ask for.

    Args:
        dataset: the target and its arguments, of which `changes` win.
        data: the group `data`.

    Raises:
        UserError: the data are missing or faulty, or have no such classes.
    """
    source: Source = instantiate(dataset, **changes, _convert_="all")
    source.form, given = image_form(data), to_dict(data)
    if source.form != RGB and not isinstance(source, FileSource):
        raise UserError(f"data.channels, data.range: {source.labels} is drawn, in RGB of 8 bits; leave them out")
    return regroup(source, given.get("merge"), given.get("ignore"))


def image_form(data: DictConfig) -> ImageForm:
    """Returns how image files are read by the group `data`, as RGB of 8 bits in runs of earlier versions."""
    span = data.get("range")
    return ImageForm(data.get("channels", RGB.channels), None if span is None else (span[0], span[1]))


def build_source(cfg: DictConfig) -> tuple[Source, Folds]:
    """Builds the dataset of a training's configuration and its division into folds.

    Raises:
        UserError: the data are missing or faulty, or have no such classes.
    """
    return build_dataset(cfg.datamodule.dataset, cfg.data), Folds(**cfg.datamodule.folds)


def build_data(datamodule: DictConfig, source: Source, **changes: Any) -> SegmentationDataModule:
    """Builds the data module around a dataset that is built already; `changes` win over the configuration."""
    kept = {key: literal(value) for key, value in datamodule.items() if key not in ("dataset", *changes)}
    arguments = OmegaConf.create(kept)
    return instantiate(arguments, _partial_=True)(dataset=source, **changes)


def build(
    cfg: DictConfig, source: Source, *, continues: bool
) -> tuple[SegmentationDataModule, SegmentationTask, list[Any]]:
    """Builds data, task and callbacks by the run's seed; settles precision and synchronised BatchNorm in `cfg`.

    Settles also whether there is a progress bar: only on a terminal. `cfg` is resolved. `continues`: the weights will
    come from the run's last checkpoint.
    """
    if cfg.backbone is not None and cfg.backbone.weights == "imagenet":
        spare_hub_retries()
    # Only now that the configuration is known to be right: importing this takes ten seconds.
    from src.callbacks.early_stopping import EarlyStopping
    from src.callbacks.progress import Lines
    from src.callbacks.pruning import Pruning
    from src.training.fit import begin

    trainer = cfg.trainer
    if trainer.sync_batchnorm == AUTO:
        trainer.sync_batchnorm = has_several_devices(cfg)
    begin(cfg.seed, cfg.rank_timeout)
    data = build_data(cfg.datamodule, source, pack=None)  # the source has its pack already
    task = build_task(cfg, continues=continues)
    settle_precision(cfg, task)
    callbacks = instantiate(cfg.callbacks)
    if not sys.stderr.isatty():
        trainer.enable_progress_bar = False  # in a log file each of its refreshes would be a line
    if not trainer.enable_progress_bar and callbacks.get("progress") is not None:
        callbacks["progress"] = Lines()
    if cfg.early_stopping.patience is not None:
        callbacks["early_stopping"] = EarlyStopping(cfg.early_stopping.patience)
    if (place := os.environ.get(TRIAL_VARIABLE)) is not None:
        callbacks["pruning"] = Pruning(Place.of(place))
    return data, task, [callback for callback in callbacks.values() if callback is not None]


def build_task(cfg: DictConfig, *, continues: bool) -> SegmentationTask:
    """Builds the task with its first weights; `init_from` is not read if a checkpoint will replace them."""
    if cfg.init_from is None:
        return instantiate(cfg.task)
    from src.training.transfer import start_from

    # Without its ImageNet weights, which need not be fetched: the source or, later, the last checkpoint has them all.
    bare = OmegaConf.merge(cfg.task)
    for key in ("backbone.weights", "weights"):
        if OmegaConf.select(bare.network.architecture, key) is not None:
            OmegaConf.update(bare.network.architecture, key, None)
    task = instantiate(bare)
    if continues:
        return task
    origin = Origin(**to_dict(cfg.init_source))
    return start_from(origin, task, cfg.seed, partial(_of_other_classes, bare.network), partial(instantiate, cfg.task))


def _of_other_classes(network: DictConfig) -> Any:
    """Builds the architecture for one class more, and without a teacher."""
    other = OmegaConf.merge(network, {"architecture": {"num_classes": network.architecture.num_classes + 1}})
    if "teacher" in other.architecture:
        other.architecture.teacher = None
    return instantiate(other, _convert_="all").architecture
