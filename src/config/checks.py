"""The checks of a configuration that need neither data nor torch, so that a wrong value is answered in a second."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.flat import flatten, to_dict
from src.errors import UserError, whole
from src.machine import num_cores


def check_given(cfg: DictConfig) -> None:
    """Raises UserError if a mandatory value is missing; names the key."""
    for key, value in flatten(to_dict(cfg)).items():
        if value == "???":
            raise UserError(f"{key} is not set; give {key}=... on the command line")


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
        "freeze.backbone_epochs": 0, "freeze.batchnorm_epochs": 0,
    }  # fmt: skip
    for key, lowest in least.items():
        whole(key, OmegaConf.select(cfg, key), lowest)
    check_workers(cfg.data.num_workers)
    share = cfg.data.class_uniform
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
        raise UserError(f"data.class_uniform={share}: must be 0 to 1")
    if cfg.trainer.sync_batchnorm not in (True, False, "auto"):
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
    if inference.short_side is not None:
        whole("inference.short_side", inference.short_side, 1, also="null")
        if inference.size is not None:
            raise UserError(f"inference.short_side={inference.short_side}: inference.size is given too; give one")
    if not 0 <= inference.overlap < 1:
        raise UserError(f"inference.overlap={inference.overlap}: must be at least 0 and below 1")
    if not inference.scales or min(inference.scales) <= 0:
        raise UserError(f"inference.scales={list(inference.scales)}: must be one or more factors above 0")


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
