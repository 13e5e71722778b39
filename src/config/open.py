"""What yaml cannot express: checks, names of runs, the resolved config that a run is rebuilt from.

Nothing here imports torch, so that a wrong value is answered in about a second.
"""

import difflib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.flat import changes, digest, flatten
from src.data.folds import HELD_OUT, Folds
from src.data.packed import attach
from src.data.source import Sample, Source
from src.data.statistics import class_weights, training_statistics
from src.errors import UserError
from src.files import first_free, write_json, write_text
from src.machine import is_first_process
from src.models.init import check_scheme
from src.runs.folder import RunFolder
from src.runs.leakage import image_ids, note_leakage
from src.training.lr_range import check_range
from src.training.transfer import find_origin

log = logging.getLogger(__name__)
AS_RUN = "run"  # in eval.yaml and predict.yaml: the value that the run had
RUN_VARIABLE = "STREETSEG_RUN"  # set by rank 0 for the processes that Lightning starts
# What does not change the result: a run may be continued with other values of these. The place of the data is among
# them, because data.fingerprint stands for its content.
VOLATILE = (
    "name", "resume", "runs", "run_dir", "choices", "init_from", "init_source.path", "logger", "data.root",
    "data.pack", "data.num_workers", "trainer.accelerator", "trainer.enable_progress_bar", "trainer.log_every_n_steps",
    "callbacks.panels", "callbacks.progress", "find_lr", "lr_range",
)  # fmt: skip

OmegaConf.register_new_resolver("len", len)
# Shares of a training, in epochs: ${share:0.1} is a tenth of them, ${whole_share:0.1} that as a whole number above 0.
# So a recipe's warm-up or decay keeps its place where scale=tiny, or the user, changes trainer.max_epochs.
OmegaConf.register_new_resolver("share", lambda part, *, _root_: part * _root_.trainer.max_epochs)
OmegaConf.register_new_resolver("whole_share", lambda part, *, _root_: max(1, round(part * _root_.trainer.max_epochs)))


def complete(cfg: DictConfig) -> DictConfig:
    """Fills in what the data and the command line decide, and checks the rest.

    Raises:
        UserError: a missing value, missing data, a backbone for a network without one, a value out of range.
    """
    choices = HydraConfig.get().runtime.choices
    groups = ("data", "model", "backbone", "experiment", "scale")
    cfg.choices = {group: choices[group] for group in groups if choices.get(group)}
    _check_given(cfg)
    named = [text for text in HydraConfig.get().overrides.task if text.startswith("backbone")]
    if choices.get("scale") == "tiny" and (given := [text for text in named if text.startswith("backbone=")]):
        raise UserError(f"{given[0]}: scale=tiny puts the smallest of its family in its place; give backbone.name=...")
    check_scheme(cfg.init)
    if cfg.init_from is not None:
        cfg.init_source = asdict(find_origin(cfg.init_from))
    if "backbone" not in cfg.model:
        if named:
            raise UserError(f"{named[0]}: model={choices['model']} has no backbone to choose; leave it out")
        cfg.backbone = None
        cfg.choices = {group: choice for group, choice in cfg.choices.items() if group != "backbone"}
    dataset, folds = _build_data(cfg.datamodule)
    attach(dataset, cfg.data.pack)  # a stale pack is told before torch is loaded
    samples = {split: folds.samples(dataset, split) for split in ("train", folds.validation_split)}
    cfg.data.classes = {name: list(colour) for name, colour in dataset.classes.items()}
    cfg.data.fingerprint = digest([dataset.labels, {split: [s.name for s in samples[split]] for split in samples}])
    _check_ranges(cfg)
    _fill_class_weights(cfg, dataset, samples["train"])
    return cfg


def _fill_class_weights(cfg: DictConfig, source: Source, samples: list[Sample]) -> None:
    """Puts numbers in place of a weighting's name, so that the run's config and identity hold them.

    Raises:
        UserError: an unknown name, not one weight a class, no labelled pixel in train.
    """
    for key, given in named(cfg.loss, "class_weights", "loss"):
        if isinstance(given, str):
            weights = class_weights(given, training_statistics(source, samples))
            OmegaConf.update(cfg, key, weights)
            if is_first_process():
                told = ", ".join(f"{c} {weight:.3g}" for c, weight in zip(source.classes, weights, strict=True))
                log.info("%s: %s of %d images: %s", key, given, len(samples), told)
        elif isinstance(given, ListConfig) and len(given) != source.num_classes:
            raise UserError(
                f"{key} has {len(given)} values; {source.labels} has {source.num_classes} classes: "
                f"{', '.join(source.classes)}"
            )


def named(node: DictConfig, name: str, key: str) -> list[tuple[str, Any]]:
    """Dotted key and value of every entry of this name, at any depth: a loss may have others inside."""
    found = [(f"{key}.{name}", node[name])] if name in node else []
    for inner, value in node.items():
        if isinstance(value, DictConfig):
            found += named(value, name, f"{key}.{inner}")
    return found


def _check_ranges(cfg: DictConfig) -> None:
    positive = {
        "data.batch_size": 1, "data.eval_batch_size": 1, "trainer.max_epochs": 1, "seed": 0,
        "freeze.backbone_epochs": 0, "freeze.batchnorm_epochs": 0,
    }  # fmt: skip
    for key, least in positive.items():
        value = OmegaConf.select(cfg, key, default=0)  # a run of a version without freeze has none
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{key}={value}: must be a whole number, at least {least}")
    workers = cfg.data.num_workers
    if workers != "auto" and (not isinstance(workers, int) or workers < 0):
        raise UserError(f"data.num_workers={workers}: must be auto or a whole number, at least 0")
    if OmegaConf.select(cfg, "find_lr", default=False):
        _check_range_test(cfg)
    share = OmegaConf.select(cfg, "data.class_uniform", default=0.0)  # a run of a version without it has none
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"data.class_uniform={share}: must be 0 to 1")
    for key in ("data.crop_size", "inference.size", "inference.window"):
        value = OmegaConf.select(cfg, key)
        is_pair = isinstance(value, ListConfig) and len(value) == 2
        if value is not None and not (is_pair and all(isinstance(side, int) and side > 0 for side in value)):
            raise UserError(f"{key}={value}: must be [HEIGHT,WIDTH] in pixels")
    if not 0 <= cfg.inference.overlap < 1:
        raise UserError(f"inference.overlap={cfg.inference.overlap}: must be at least 0 and below 1")
    if not cfg.inference.scales or min(cfg.inference.scales) <= 0:
        raise UserError(f"inference.scales={list(cfg.inference.scales)}: must be one or more factors above 0")


def _check_range_test(cfg: DictConfig) -> None:
    check_range(**cfg.lr_range)
    if has_several_devices(cfg):
        raise UserError(
            f"find_lr=true: runs on one device, and trainer.devices={cfg.trainer.devices}; set trainer.devices=1, and "
            "trainer.accumulate_grad_batches to the number of devices for the same total batch"
        )


def open_range_test(cfg: DictConfig) -> tuple[Path, DictConfig]:
    """The folder of a learning rate range test, apart from the run folders, and the config, resolved."""
    path = Path(cfg.runs) / "lr_range" / (cfg.name or derive_name(cfg))
    cfg.run_dir = str(path)
    return path, OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def open_run(cfg: DictConfig) -> tuple[RunFolder, DictConfig]:
    """The folder of this run, its own where the same command made one, else a new one; and the config, resolved.

    Raises:
        UserError: the folder holds weights of another configuration, or another process trains in it.
    """
    inherited = os.environ.get(RUN_VARIABLE)
    path = Path(inherited or Path(cfg.runs) / (cfg.name or derive_name(cfg)))
    if not cfg.resume and not inherited:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise UserError("resume=false: under torchrun every rank would choose a folder; give name=... instead")
        path = first_free(path)
    cfg.run_dir = str(path)
    run = RunFolder(path)
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    if not inherited and is_first_process() and _changes(cfg, run):
        run.path.mkdir(parents=True, exist_ok=True)
        with run.lock():  # another process may train here, and have no checkpoint yet
            _make_room(cfg, run)
            source, folds = _build_data(cfg.datamodule)
            for name, text in folds.lists(source).items():
                write_text(run.path / "folds" / f"{name}.txt", text)
            trained = image_ids(source, folds.samples(source, "train"))
            note_leakage(run.path, trained, None if cfg.init_from is None else Path(cfg.init_source.path))
            write_json(run.identity, identity(cfg))
            write_text(run.config, OmegaConf.to_yaml(resolved))
    return run, resolved


def load_run(cfg: DictConfig) -> tuple[RunFolder, DictConfig]:
    """The run folder `cfg.run` and the config it was made with, under the protocol changes that `cfg` asks for.

    Raises:
        UserError: no run folder there (names the nearest), no such checkpoint, a value out of range.
    """
    _check_given(cfg)
    run = RunFolder(Path(cfg.run))
    if not run.config.is_file():
        siblings = [path.parent.name for path in run.path.parent.glob("*/config.yaml")]
        near = difflib.get_close_matches(run.path.name, siblings, 3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise UserError(f"run={cfg.run}: no run folder there (no config.yaml){hint}")
    run.checkpoint(cfg.checkpoint)
    config = OmegaConf.load(run.config)
    for key, value in cfg.inference.items():
        if value != AS_RUN:
            config.task.inference[key] = config.inference[key] = value
    if cfg.precision != AS_RUN:
        config.trainer.precision = cfg.precision
    # The checkpoint has them all: the network need not fetch those it once started from.
    architecture = config.task.network.architecture
    for key, _ in named(architecture, "weights", ""):
        OmegaConf.update(architecture, key.lstrip("."), None)
    _check_ranges(config)
    return run, config


def load_data(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[Source, str, list[Sample]]:
    """The dataset of a run, where `cfg.data.root` says it is on this machine; the name and samples of `cfg.split`.

    Raises:
        UserError: a root for data without one, a split that is not there, other files in a fold than the run had.
    """
    dataset = config.datamodule.dataset
    if cfg.data.root != AS_RUN:
        if "root" not in dataset:
            raise UserError(f"data.root={cfg.data.root}: {config.data.name} has no root; leave it out")
        dataset.root = cfg.data.root
    source, folds = _build_data(config.datamodule)
    split = folds.validation_split if cfg.split == AS_RUN else cfg.split
    lists = folds.lists(source) if split in ("train", HELD_OUT) else {}
    for name, text in lists.items():
        path = run.path / "folds" / f"{name}.txt"
        if path.read_text() != text:
            raise UserError(f"{path}: names other files than the data have now; give the data it was trained on")
    return source, split, folds.samples(source, split)


def _build_data(datamodule: DictConfig) -> tuple[Source, Folds]:
    folds = datamodule.get("folds")  # a run of a version without folds has none
    return instantiate(datamodule.dataset, _convert_="all"), Folds(**(folds or {}))


def _check_given(cfg: DictConfig) -> None:
    for key, value in flatten(OmegaConf.to_container(cfg)).items():
        if value == "???":
            raise UserError(f"{key} is not set; give {key}=... on the command line")


def one_process_per_job(cfg: DictConfig) -> bool:
    """Whether this job of a sweep wants several devices: Lightning's children would replay the whole sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and has_several_devices(cfg)


def has_several_devices(cfg: DictConfig) -> bool:
    """Whether a run may use more than one device."""
    devices = cfg.trainer.devices
    return devices == "auto" or devices not in (1, "1", [0])


def identity(cfg: DictConfig) -> dict[str, Any]:
    """The values that make a run what it is, by dotted key. Interpolations stay: what they point to counts."""
    return {
        key: value
        for key, value in flatten(OmegaConf.to_container(cfg)).items()
        if not any(key == name or key.startswith(f"{name}.") for name in VOLATILE)
    }


def derive_name(cfg: DictConfig) -> str:
    """Readable, and the same for the same command: what was chosen, the seed, and a digest of all that matters."""
    choices = cfg.choices
    parts = [choices.get("experiment")] if choices.get("experiment") else [choices.data, choices.model]
    if choices.get("backbone") and not choices.get("experiment"):
        parts.append(choices.backbone)
    if choices.get("scale", "full") != "full":
        parts.append(choices.scale)
    if cfg.data.num_folds is not None:
        parts.append(f"fold{cfg.data.fold}of{cfg.data.num_folds}")
    stem = "-".join(str(part).replace("/", "_") for part in parts)
    return f"{stem}-s{cfg.seed}-{digest(identity(cfg))}"


def _changes(cfg: DictConfig, run: RunFolder) -> list[str]:
    """What is not as in the configuration that the folder has; the place of that where it has none."""
    if not run.config.is_file():
        return [str(run.config)]
    return changes(json.loads(run.identity.read_text()), json.loads(json.dumps(identity(cfg))))


def check_configuration(cfg: DictConfig, run: RunFolder) -> None:
    """UserError where the folder is of another configuration."""
    if changes := _changes(cfg, run):
        raise UserError(
            f"{run.path} holds a run of another configuration ({', '.join(changes[:3])}"
            f"{', ...' if len(changes) > 3 else ''}); give another name= (to src.crossval or src.stages, where one of "
            "these runs it), or resume=false, to start beside it"
        )


def _make_room(cfg: DictConfig, run: RunFolder) -> None:
    """Clears a folder that no run got to weights in. UserError where one did, by another configuration."""
    if not run.has_weights:
        run.clear()
    elif run.config.is_file():
        check_configuration(cfg, run)
