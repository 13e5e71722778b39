"""The checks of a configuration that need neither data nor torch, so that a wrong value is answered in a second."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.flat import flatten, to_dict
from src.config.kinds import is_number
from src.crf.settings import DenseCRF
from src.errors import UserError, whole
from src.machine import has_launcher, num_cores

LARGEST_SEED = 2**32 - 1  # of numpy and Lightning
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
PRECISIONS = (
    "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "32", "16", "bf16", "64",
    "transformer-engine", "transformer-engine-float16",
)  # fmt: skip
AUTO = "auto"  # as trainer.precision: src.config.precision chooses; as trainer.sync_batchnorm: src.config.build
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
    _check_machine(trainer)
    whole("trainer.check_val_every_n_epoch", trainer.check_val_every_n_epoch, 1)
    batches = trainer.get("limit_train_batches", 1.0)
    is_share = isinstance(batches, float) and 0 < batches <= 1
    if not is_share and (type(batches) is not int or batches < 1):
        raise UserError(
            f"trainer.limit_train_batches={batches}: must be a number of batches per epoch, at least 1, or a share of "
            "them, above 0.0 and at most 1.0"
        )


def _check_machine(trainer: DictConfig) -> None:
    """Raises UserError for a device, a precision or a number of steps that Lightning's trainer does not know."""
    for name, known in (("accelerator", ACCELERATORS), ("strategy", STRATEGIES), ("precision", PRECISIONS)):
        one_of(f"trainer.{name}", trainer[name], (*known, AUTO) if name == "precision" else known)
    if trainer.precision == AUTO and trainer.accelerator != "cpu":
        raise UserError(
            f"trainer.precision=auto: is measured on a CPU, and trainer.accelerator is {trainer.accelerator}; give "
            "trainer.precision=bf16-mixed, 32-true, or trainer=cpu"
        )
    devices = trainer.devices
    is_list = isinstance(devices, ListConfig) and bool(devices) and all(type(each) is int for each in devices)
    if devices != "auto" and not is_list:
        # As a number or its text; -1 stands for all.
        count = int(devices) if isinstance(devices, str) and devices.lstrip("-").isdigit() else devices
        whole("trainer.devices", count if count != -1 else 1, 1, also="auto, -1, a list of numbers")
    nodes = whole("trainer.num_nodes", trainer.get("num_nodes", 1), 1)
    if nodes > 1 and not has_launcher() and "SLURM_NTASKS" not in os.environ:
        raise UserError(
            f"trainer.num_nodes={nodes}: nothing has started this command on the others; start it on each node by "
            "torchrun, or by srun (docs/training.md, Several nodes)"
        )
    whole("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, 1)
    whole("trainer.log_every_n_steps", trainer.log_every_n_steps, 1)
    whole("trainer.num_sanity_val_steps", trainer.num_sanity_val_steps, 0)
    clip = trainer.gradient_clip_val
    if clip is not None and not (is_number(clip) and 0 < clip < math.inf):
        raise UserError(f"trainer.gradient_clip_val={clip}: must be null or a number above 0")
    if clip is None and (algorithm := trainer.get("gradient_clip_algorithm")) is not None:
        raise UserError(
            f"trainer.gradient_clip_algorithm={algorithm}: nothing is clipped without trainer.gradient_clip_val; give "
            "both, or none"
        )
    if trainer.deterministic not in (True, False, "warn", None):
        raise UserError(f"trainer.deterministic={trainer.deterministic}: must be true, false or warn")


def one_of(key: str, given: Any, known: Sequence[str]) -> Any:
    """Returns a value that is one of those known, as its text too. Raises UserError for another."""
    if str(given) not in known:
        raise UserError(f"{key}={given}: must be one of {', '.join(known)}")
    return given


def list_splits(given: Any) -> list[str]:
    """Returns the names of splits, of which one may stand alone. Raises UserError for anything else."""
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, ListConfig) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"splits={given}: must be names of splits, such as [train,val]")
    return names


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


def check_terms(loss: DictConfig) -> None:
    """Raises UserError for a loss without terms, and for a term of which there are settings only."""
    if "terms" not in loss:
        return
    if not loss.terms:
        raise UserError("loss.terms is empty; choose another loss=..., or leave it out")
    for name, term in loss.terms.items():
        if not term or "_target_" not in (term.get("loss") or {}):
            raise UserError(
                f"loss.terms.{name} has settings, of the recipe or the command line, and no loss: the loss chosen has "
                f"no such term; add ~loss.terms.{name} to the command, or choose another loss=..."
            )


def check_ranges(cfg: DictConfig) -> None:
    """Raises UserError if a value of a training's configuration is out of range."""
    least = {
        "data.batch_size": 1, "data.eval_batch_size": 1, "trainer.max_epochs": 1, "seed": 0, "data.fold_seed": 0,
        "data.worker_timeout": 1, "rank_timeout": 1, "freeze.backbone_epochs": 0, "freeze.batchnorm_epochs": 0,
    }  # fmt: skip
    for key, lowest in least.items():
        whole(key, OmegaConf.select(cfg, key), lowest)
    check_trainer(cfg.trainer)
    check_form(cfg.data)
    check_workers(cfg.data.num_workers)
    if cfg.early_stopping.patience is not None:
        whole("early_stopping.patience", cfg.early_stopping.patience, 1, also="null")
    rate = OmegaConf.select(cfg, "optimizer.lr")
    if not is_number(rate) or not 0 < rate < math.inf:
        raise UserError(f"optimizer.lr={rate}: must be a number above 0")
    for key in ("seed", "data.fold_seed"):
        if (seed := OmegaConf.select(cfg, key)) > LARGEST_SEED:
            raise UserError(f"{key}={seed}: must be at most {LARGEST_SEED}")
    decay = cfg.optimizer.get("weight_decay", 0)
    if not (is_number(decay) and 0 <= decay < math.inf):
        raise UserError(f"optimizer.weight_decay={decay}: must be a number of at least 0")
    if cfg.augment_on not in ("worker", "device"):
        raise UserError(f"augment_on={cfg.augment_on}: must be worker or device")
    check_terms(cfg.loss)
    if cfg.callbacks.get("panels") is not None:
        whole("callbacks.panels.num_images", cfg.callbacks.panels.num_images, 1)
        whole("callbacks.panels.every_n_epochs", cfg.callbacks.panels.every_n_epochs, 1)
    share = cfg.data.class_uniform
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
        raise UserError(f"data.class_uniform={share}: must be 0 to 1")
    if cfg.trainer.sync_batchnorm != AUTO and not isinstance(cfg.trainer.sync_batchnorm, bool):
        raise UserError(f"trainer.sync_batchnorm={cfg.trainer.sync_batchnorm}: must be auto, true or false")
    _check_size("data.crop_size", cfg.data.crop_size)
    check_inference(cfg.inference)


def check_workers(given: Any) -> None:
    """Raises UserError if `data.num_workers` is neither `auto` nor a number of processes."""
    if given != "auto":
        whole("data.num_workers", given, 0, also="auto")


def check_inference(inference: DictConfig) -> None:
    """Raises UserError if a value of the inference protocol is out of range."""
    for key in ("size", "window", "crop"):
        _check_size(f"inference.{key}", inference.get(key))
    one_of("inference.weights", inference.get("weights", "flat"), ("flat", "gaussian"))
    labels = one_of("inference.labels", inference.get("labels", "own"), ("own", "seen"))
    if not isinstance(inference.flip, bool):
        raise UserError(f"inference.flip={inference.flip}: must be true or false")
    if inference.short_side is not None:
        whole("inference.short_side", inference.short_side, 1, also="null")
        if inference.size is not None:
            raise UserError(f"inference.short_side={inference.short_side}: inference.size is given too; give one")
    if inference.get("crop") and labels == "own" and (inference.size or inference.short_side):
        raise UserError(
            f"inference.crop={inference.crop}: is cut from the resized image, and labels must have its size: give "
            "inference.labels=seen too"
        )
    if inference.get("weights") == "gaussian" and inference.window is None:
        raise UserError(
            "inference.weights=gaussian: there are no windows to weigh; give inference.window=[HEIGHT,WIDTH]"
        )
    if not is_number(inference.overlap) or not 0 <= inference.overlap < 1:
        raise UserError(f"inference.overlap={inference.overlap}: must be at least 0 and below 1")
    check_crf(inference.get("crf"))
    scales = inference.scales
    if not isinstance(scales, ListConfig) or not scales or not all(is_number(s) and 0 < s < math.inf for s in scales):
        raise UserError(f"inference.scales={scales}: must be one or more factors above 0")


def check_crf(value: Any) -> None:
    """Raises UserError if the parameters of a dense CRF are not those that it has, or out of range."""
    if value is None:
        return
    usual = asdict(DenseCRF())
    if not isinstance(value, DictConfig):
        raise UserError(f"inference.crf={value}: must be null, or {{}} with any of {', '.join(usual)} in it")
    for key, number in value.items():
        if key not in usual:
            raise UserError(f"inference.crf.{key}: there is no such parameter; it has {', '.join(usual)}")
        if key == "iterations":
            whole("inference.crf.iterations", number, 1)
        elif not is_number(number) or not (0 <= number < math.inf) or (number == 0 and "weight" not in str(key)):
            raise UserError(f"inference.crf.{key}={number}: must be a number above 0 (a weight may be 0)")


def _check_size(key: str, value: Any) -> None:
    is_pair = isinstance(value, ListConfig) and len(value) == 2
    if value is not None and not (is_pair and all(type(side) is int and side > 0 for side in value)):
        raise UserError(f"{key}={value}: must be [HEIGHT,WIDTH] in pixels")


def check_form(data: DictConfig) -> None:
    """Raises UserError if the channels or the range of the images are out of range."""
    if type(data.channels) is not int or data.channels not in (3, 4):
        raise UserError(f"data.channels={data.channels}: must be 3 (RGB) or 4 (RGB and one more)")
    span = data.range
    is_pair = isinstance(span, ListConfig) and len(span) == 2 and all(type(value) is int for value in span)
    if span is not None and not (is_pair and 0 <= span[0] < span[1] < 2**16):
        raise UserError(f"data.range={span}: must be [LOW,HIGH] with 0 <= LOW < HIGH < 65536, or null")


def check_one_device(cfg: DictConfig) -> None:
    """Raises UserError if a learning rate range test could run on several devices."""
    if has_several_devices(cfg):
        raise UserError(
            f"src.find_lr runs on one device, and trainer.devices={cfg.trainer.devices}, trainer.num_nodes="
            f"{cfg.trainer.num_nodes}; set trainer.devices=1 trainer.num_nodes=1, and trainer.accumulate_grad_batches "
            "to the number of devices for the same total batch"
        )


def has_several_devices(cfg: DictConfig) -> bool:
    """Returns whether a run may use more than one device."""
    devices = cfg.trainer.devices
    return devices == "auto" or devices not in (1, "1", [0]) or cfg.trainer.get("num_nodes", 1) > 1
