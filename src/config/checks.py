"""The checks of a configuration that need neither data nor torch, so that a wrong value is answered in a second."""

import math
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.flat import flatten, to_dict
from src.errors import UserError, whole
from src.machine import num_cores

# Numbers by default that may be something else.
FREE = ("trainer.devices",)
# Options of Lightning's trainer that work here. `conf/trainer` states most of them.
TRAINER = (
    "accelerator", "accumulate_grad_batches", "benchmark", "check_val_every_n_epoch", "detect_anomaly", "deterministic",
    "devices", "enable_checkpointing", "enable_model_summary", "enable_progress_bar", "gradient_clip_algorithm",
    "gradient_clip_val", "limit_train_batches", "log_every_n_steps", "max_epochs", "num_nodes", "num_sanity_val_steps",
    "precision", "strategy", "sync_batchnorm", "use_distributed_sampler",
)  # fmt: skip
# Options of it that this program replaces or cannot honour, and the remedy. A figure is always of a whole split, epochs
# are whole, and `last.ckpt`, schedules and seeds count in epochs.
REMEDIES = {
    "callbacks": "give +callbacks.NAME._target_=CLASS",
    "default_root_dir": "give runs=FOLDER",
    "fast_dev_run": "for a first try give scale=tiny, or trainer.max_epochs=1 +trainer.limit_train_batches=2",
    "limit_val_batches": "figures are of all images; to validate less often give trainer.check_val_every_n_epoch",
    "logger": "choose logger=csv, or give +logger.NAME._target_=CLASS",
    "max_steps": "give trainer.max_epochs, and for shorter epochs +trainer.limit_train_batches=N",
    "max_time": "give trainer.max_epochs; a run that was stopped continues by the same command",
    "overfit_batches": "give data of a few images, such as data.dataset.num_train=4 or a short train.txt",
    "profiler": "profile the command from outside, by py-spy or torch.profiler",
    "val_check_interval": "give trainer.check_val_every_n_epoch",
}


def check_given(cfg: DictConfig) -> None:
    """Raises UserError if a mandatory value is missing; names the key."""
    for key, value in flatten(to_dict(cfg)).items():
        if value == "???":
            raise UserError(f"{key} is not set; give {key}=... on the command line")


def check_kinds(cfg: DictConfig) -> None:
    """Raises UserError if the command line gives text for a number, or anything but true and false for a switch.

    The kind of a value is that of the default which the same choices of groups have.
    """
    hydra = HydraConfig.get()
    groups = {choice.partition("@")[0] for choice in hydra.runtime.choices}
    words = list(hydra.overrides.task)
    values = [word for word in words if word[0] not in "+~" and word.partition("=")[0].partition("@")[0] not in groups]
    if not values:
        return
    others = [word for word in words if word not in values and not word.startswith("~")]
    search = [word for word in hydra.overrides.hydra if word.startswith("hydra.searchpath")]
    usual = _compose_usual(hydra.job.config_name, (*search, *others))
    for key in dict.fromkeys(word.partition("=")[0] for word in values):
        for inner, given in flatten(_plain(cfg, key), key).items():
            _check_kind(inner, given, _plain(usual, inner))


@cache
def _compose_usual(config_name: str, words: tuple[str, ...]) -> DictConfig:
    """Composes a configuration; once per process, for the jobs of a sweep that differ only in values."""
    return compose(config_name, list(words))


def _plain(cfg: DictConfig, key: str) -> Any:
    """Returns the value at a key, without interpolations if they can be resolved; None if there is none."""
    try:
        node = OmegaConf.select(cfg, key)
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException:
        return None


def _check_kind(key: str, given: Any, usual: Any) -> None:
    """Raises UserError if a value is not of the kind of the usual one; null may stand for any number."""
    if isinstance(usual, bool):
        if not isinstance(given, bool):
            raise UserError(f"{key}={given}: must be true or false")
    elif _is_number(usual) and given is not None and key not in FREE:
        if not _is_number(given) or math.isnan(given):
            raise UserError(f"{key}={given}: must be a number, such as {usual}")
    elif isinstance(usual, list) and usual and all(map(_is_number, usual)) and isinstance(given, list):
        wrong = [value for value in given if not _is_number(value) or math.isnan(value)]
        if wrong:
            raise UserError(f"{key}={given}: must be numbers, such as {usual}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_trainer(trainer: DictConfig) -> None:
    """Raises UserError for an option of Lightning's trainer that this program cannot honour."""
    for key in trainer:
        name = str(key)
        if not name.startswith("_") and name not in TRAINER:
            known = ", ".join(TRAINER)
            remedy = REMEDIES.get(name, f"of Lightning's trainer it takes {known}")
            raise UserError(f"trainer.{name}={trainer[name]}: this program does not take it; {remedy}")
    for name, needed, why in (
        ("use_distributed_sampler", False, "the data module divides the images between devices"),
        ("enable_checkpointing", True, "the best checkpoint is evaluated"),
    ):
        if trainer.get(name, needed) is not needed:
            raise UserError(f"trainer.{name}={trainer[name]}: must be {str(needed).lower()}, for {why}; leave it out")
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    whole("trainer.check_val_every_n_epoch", every, 1)
    if every > epochs:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every}: no epoch of trainer.max_epochs={epochs} would be validated, and "
            f"no checkpoint be the best; give at most {epochs}"
        )
    batches = trainer.get("limit_train_batches", 1.0)
    is_share = isinstance(batches, float) and 0 < batches <= 1
    if not is_share and (type(batches) is not int or batches < 1):
        raise UserError(
            f"trainer.limit_train_batches={batches}: must be a number of batches per epoch, at least 1, or a share of "
            "them, above 0.0 and at most 1.0"
        )


def check_has_files(cfg: DictConfig, purpose: str) -> None:
    """Raises UserError if a dataset is drawn, or if its folder is not given; `purpose` is what the command does."""
    if OmegaConf.is_missing(cfg.data, "root"):
        raise UserError("data.root is not set; give data.root=DIR, the folder that holds the dataset")
    if "root" not in cfg.data.dataset:
        raise UserError(
            f"data={cfg.data.name}: these images are drawn, not read: nothing to {purpose}; choose data=..."
        )


def count_workers(key: str, given: Any) -> int:
    """Returns how many processes or threads to use; `auto` is one per core that this process may use."""
    return num_cores() if given == "auto" else whole(key, given, 1, also="auto")


def check_ranges(cfg: DictConfig) -> None:
    """Raises UserError if a value of a training's configuration is out of range."""
    least = {
        "data.batch_size": 1, "data.eval_batch_size": 1, "trainer.max_epochs": 1, "seed": 0,
        "data.worker_timeout": 1, "rank_timeout": 1, "freeze.backbone_epochs": 0, "freeze.batchnorm_epochs": 0,
    }  # fmt: skip
    for key, lowest in least.items():
        whole(key, OmegaConf.select(cfg, key), lowest)
    check_trainer(cfg.trainer)
    check_workers(cfg.data.num_workers)
    rate = OmegaConf.select(cfg, "optimizer.lr")
    if not _is_number(rate) or not 0 < rate < math.inf:
        raise UserError(f"optimizer.lr={rate}: must be a number above 0")
    share = cfg.data.class_uniform
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
        raise UserError(f"data.class_uniform={share}: must be 0 to 1")
    if cfg.trainer.sync_batchnorm != "auto" and not isinstance(cfg.trainer.sync_batchnorm, bool):
        raise UserError(f"trainer.sync_batchnorm={cfg.trainer.sync_batchnorm}: must be auto, true or false")
    _check_size("data.crop_size", cfg.data.crop_size)
    check_inference(cfg.inference)


def check_workers(given: Any) -> None:
    """Raises UserError if `data.num_workers` is neither `auto` nor a number of processes."""
    if given != "auto":
        whole("data.num_workers", given, 0, also="auto")


def check_inference(inference: DictConfig) -> None:
    """Raises UserError if a value of the inference protocol is out of range."""
    for key in ("size", "window"):
        _check_size(f"inference.{key}", inference[key])
    if not isinstance(inference.flip, bool):
        raise UserError(f"inference.flip={inference.flip}: must be true or false")
    if inference.short_side is not None:
        whole("inference.short_side", inference.short_side, 1, also="null")
        if inference.size is not None:
            raise UserError(f"inference.short_side={inference.short_side}: inference.size is given too; give one")
    if not _is_number(inference.overlap) or not 0 <= inference.overlap < 1:
        raise UserError(f"inference.overlap={inference.overlap}: must be at least 0 and below 1")
    scales = inference.scales
    if not isinstance(scales, ListConfig) or not scales or not all(_is_number(s) and 0 < s < math.inf for s in scales):
        raise UserError(f"inference.scales={scales}: must be one or more factors above 0")


def _check_size(key: str, value: Any) -> None:
    is_pair = isinstance(value, ListConfig) and len(value) == 2
    if value is not None and not (is_pair and all(type(side) is int and side > 0 for side in value)):
        raise UserError(f"{key}={value}: must be [HEIGHT,WIDTH] in pixels")


def check_one_device(cfg: DictConfig) -> None:
    """Raises UserError if a learning rate range test could run on several devices."""
    if has_several_devices(cfg):
        raise UserError(
            f"src.find_lr runs on one device, and trainer.devices={cfg.trainer.devices}; set trainer.devices=1, and "
            "trainer.accumulate_grad_batches to the number of devices for the same total batch"
        )


def has_several_devices(cfg: DictConfig) -> bool:
    """Returns whether a run may use more than one device."""
    devices = cfg.trainer.devices
    return devices == "auto" or devices not in (1, "1", [0])
