"""Reads the configuration of a run folder, which may come from anybody: it must be whole, and name no foreign code."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.flat import to_dict
from src.config.resolvers import CONF
from src.errors import UserError
from src.files import damaged

# Parts that commands read from a run's configuration.
NEEDED = (
    "data.name", "data.classes", "datamodule.dataset._target_", "datamodule.folds", "inference",
    "task.network._target_", "task.classes", "task.inference", "trainer.precision", "seed",
)  # fmt: skip
END = "\n..."  # YAML's mark of the end of a document
TASK = ("src.task.", "src.models.", "src.losses.", "src.training.", "torch.optim.")
DATA = ("src.data.", "albumentations.")
# Packages whose classes the parts of a configuration build, by the first part of the key. Others build nothing, and the
# callbacks of a run, its averaging and its own loggers only the training that was given them on the command line.
ROOMS = {
    **dict.fromkeys(("task", "model", "loss", "optimizer", "scheduler"), TASK),
    **dict.fromkeys(("datamodule", "data", "augmentation"), DATA),
    "logger": ("src.callbacks.",),
    "trainer": ("lightning.Trainer",),
}
# Folders of conf/ whose files may name a user's own classes for these parts.
GROUPS = {
    **dict.fromkeys(("task", "model", "loss", "optimizer", "scheduler"), ("model", "loss", "optimizer", "scheduler")),
    **dict.fromkeys(("datamodule", "data", "augmentation"), ("data", "augmentation")),
}
INTERPOLATION = re.compile(r"(?<!\\)(\\\\)*\$\{")  # not one with a backslash before it, which OmegaConf reads as text
# Of these packages every class is allowed, of the others those that conf/ names.
PROGRAM = __name__.partition(".")[0]  # src in a clone, streetseg where it is installed (setup.py)
ENSEMBLE = f"{PROGRAM}.models.ensemble.Ensemble"  # of runs of src.aggregate; no file of conf/ names it
OWN = re.compile(r"(?m)(_target_: *)(?:src|streetseg)\b(?=\.)")  # of a run of either
CLASSES = re.compile(r"(torch\.optim|albumentations)\.[A-Z]\w*")


def load_config(path: Path) -> DictConfig:
    """Reads a run's configuration for a command that builds its parts.

    Raises:
        UserError: it is damaged, or would build something that a run of this program does not have.
    """
    config = read_config(path)
    check_targets(config, path)
    return config


def read_config(path: Path) -> DictConfig:
    """Reads a run's configuration. Raises UserError if it is damaged."""
    try:
        text = path.read_bytes().decode()
        if not text.rstrip().endswith(END):
            raise damaged(path, f"it is cut off: its last line is not {END.strip()}")
        config = OmegaConf.create(OWN.sub(rf"\1{PROGRAM}", text))
        missing = [key for key in NEEDED if OmegaConf.select(config, key) is None]
    except UserError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        raise damaged(path, error) from error
    if missing or not isinstance(config, DictConfig):
        raise damaged(path, f"it has no {missing[0]}" if missing else "it is a list")
    return config


def config_text(config: DictConfig) -> str:
    """Writes a configuration as YAML, with the mark of its end, by which one that was cut off is known."""
    return OmegaConf.to_yaml(config) + END.lstrip() + "\n"


def check_targets(config: DictConfig, path: Path) -> None:
    """Raises UserError if any part of a run's configuration would call a function that its place does not have.

    A run folder from somebody else must not run their code: `_target_` is one of the classes of conf/ that belong to
    its place, of torch.optim, or of albumentations. Interpolations, which could make one, are refused too.
    """
    check_classes_named(config, f"{path}: ")
    for key, value in _walk(to_dict(config)):
        if key.rpartition(".")[2] != "_target_" and isinstance(value, str) and INTERPOLATION.search(value):
            raise UserError(f"{path}: {key}={value} is an interpolation, and a run's configuration has none")


def check_classes_named(config: DictConfig, source: str = "") -> None:
    """Raises UserError for a class that commands would not build from the run folder; a training refuses it at once.

    Args:
        source: beginning of the message.
    """
    for key, value in _walk(to_dict(config)):
        root = re.split(r"[.\[]", key)[0]
        is_built = root not in ("callbacks", "averaging") and (root != "logger" or key.startswith("logger.wandb"))
        if key.rpartition(".")[2] == "_target_" and is_built and not _belongs(root, value):
            raise UserError(
                f"{source}{key}={value} is not a class that belongs there, and from a run folder could be code that "
                "does harm; use run folders of this program, or, for a class of your own, name it in a yaml file of "
                "that group in conf/"
            )


def _belongs(root: str, value: Any) -> bool:
    """Returns whether a class may be built in a part of the configuration."""
    if not isinstance(value, str):
        return False
    if value.split(".")[0] in (PROGRAM, "torch", "albumentations", "lightning"):
        is_known = value in known_targets() or CLASSES.fullmatch(value) is not None
        return is_known and value.startswith(ROOMS.get(root, ()))
    return any(value in known_targets(group) for group in GROUPS.get(root, ()))


@cache
def known_targets(group: str = ".") -> frozenset[str]:
    """Returns every `_target_` that a file in a folder of conf/ names."""
    texts = (file.read_text() for file in (CONF / group).rglob("*.yaml"))
    return frozenset(target for text in texts for target in re.findall(r"_target_: *([\w.]+)", text)) | {ENSEMBLE}


def _walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every leaf of nested dicts and lists with its key; `_target_` whatever it holds."""
    if isinstance(node, dict):
        for name, inner in node.items():
            inner_key = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield inner_key, inner
            else:
                yield from _walk(inner, inner_key)
    elif isinstance(node, list):
        for number, inner in enumerate(node):
            yield from _walk(inner, f"{key}[{number}]")
    else:
        yield key, node
