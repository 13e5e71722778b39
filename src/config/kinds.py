"""The check that a value of the command line is of the kind that its key takes: number, switch, text, list or group."""

import math
import re
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.flat import flatten, to_dict
from src.config.messages import unknown_choice
from src.config.resolvers import choices_of
from src.config.words import TEXTS
from src.errors import UserError, shortened

# Single values by default that may be a list.
FREE = ("trainer.devices", "input")
# Keys that the program fills in; a value given would be replaced without a word.
FILLED = ("choices", "run_dir", "init_source", "weight_digests", "data.classes", "data.fingerprint", "data.image_size")
# Parts that repeat values of other keys.
COPIES = re.compile(r"(task|datamodule)\..*|model\.num_classes")
# Parts of which nothing can be left out by null. Callbacks, loggers and steps of an augmentation can.
WHOLE = (
    "data.",
    "early_stopping",
    "datamodule",
    "freeze",
    "inference",
    "loss",
    "optimizer",
    "scheduler",
    "task",
    "trainer",
    "crossval",
    "aggregate",
    "lr_range",
)
# Numbers of these parts that cannot be left out by null, and the keys in them that can.
NEEDED = re.compile(r"(optimizer|scheduler|averaging|loss|lr_range)\..*")
OPTIONAL = ("layer_decay", "class_weights", "weight", "alpha")


def check_kinds(cfg: DictConfig) -> None:
    """Raises UserError for a value of the command line that is of another kind than its key takes, or has no effect.

    The kind of a value is that of the default which the same choices of groups have. A yaml whose name begins with an
    underscore is a part of choices, and none itself.
    """
    hydra = HydraConfig.get()
    for group, choice in hydra.runtime.choices.items():
        if str(choice).rpartition("/")[2].startswith("_"):
            raise UserError(unknown_choice(group, choice, choices_of(group)))
    groups = {choice.partition("@")[0] for choice in hydra.runtime.choices}
    words = list(hydra.overrides.task)
    values = [word for word in words if word[0] not in "+~" and word.partition("=")[0].partition("@")[0] not in groups]
    others = [word for word in words if word not in values and not word.startswith("~")]
    search = [word for word in hydra.overrides.hydra if word.startswith("hydra.searchpath")]
    name = str(hydra.job.config_name)
    _check_added([word for word in others if word.startswith("+")], groups, name)
    if not values:
        return
    usual = _compose_usual(name, (*search, *others))
    for key in dict.fromkeys(word.partition("=")[0] for word in values):
        _check_source(key, usual)
        given = _plain(cfg, key)
        _check_shape(key, given, _plain(usual, key), is_needed=OmegaConf.is_missing(*_place(usual, key)))
        for inner, value in flatten(given, key).items():
            _check_kind(inner, value, _plain(usual, inner))


def _check_added(words: list[str], groups: set[str], name: str) -> None:
    """Raises UserError for a key that the command line adds beside all others, where nothing reads it."""
    for word in words:
        first = re.split(r"[.@/=]", word.lstrip("+"))[0]
        if first not in groups and first not in (roots := list(_compose_usual(name, ()))):
            known = ", ".join(sorted(map(str, roots)))
            raise UserError(f"{word}: nothing reads {first}; leave it out, or give a key in one of {known}")


@cache
def _compose_usual(config_name: str, words: tuple[str, ...]) -> DictConfig:
    """Composes a configuration; once per process, for the jobs of a sweep that differ only in values."""
    return compose(config_name, list(words))


def _place(cfg: DictConfig, key: str) -> tuple[Any, str]:
    """Returns the node that holds a key, and the last part of the key."""
    above, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, above) if above else cfg
    is_there = isinstance(node, DictConfig) and name in list(node.keys())  # `in` is false for a value that is missing
    return (node if is_there else OmegaConf.create({name: None})), name


def _plain(cfg: DictConfig, key: str) -> Any:
    """Returns the value at a key, without interpolations if they can be resolved; None if there is none."""
    node = None
    try:
        node = OmegaConf.select(cfg, key)
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException:
        return OmegaConf.to_container(node) if OmegaConf.is_config(node) else None


def _check_source(key: str, usual: DictConfig) -> None:
    """Raises UserError for a key whose value the program takes from elsewhere."""
    if any(key == name or key.startswith(f"{name}.") for name in FILLED):
        raise UserError(f"{key} is filled in by the program; leave it out")
    node, name = _place(usual, key)
    if COPIES.fullmatch(key) and OmegaConf.is_interpolation(node, name):
        text = str(to_dict(node)[name])
        source = re.sub(r"[${}]|\w+:", "", text)
        remedy = "leave it out" if source in FILLED else f"give {source}=... instead, or leave it out"
        raise UserError(f"{key} always is that of {source}; {remedy}")


def _check_shape(key: str, given: Any, usual: Any, *, is_needed: bool) -> None:
    """Raises UserError for a group, a list or nothing in the place of a value, and the reverse.

    Args:
        is_needed: whether the default is that the command line must give a value.
    """
    is_text = key in TEXTS and not (key == "runs" and usual is None)  # of src.aggregate: a list of folders
    if given is None or given == "":
        is_part = isinstance(usual, dict) and key.startswith(WHOLE)
        is_name = is_text and isinstance(usual, str) and key != "data.pack"  # null stands for no pack
        is_empty = is_text and given == "" and usual is None
        if is_needed or (is_name and given != usual) or is_empty or (is_part and given is None):
            shown = "null" if given is None else "''"
            remedy = f"give {key}=..." + ("" if is_needed else ", or leave it out for its default")
            raise UserError(f"{key}={shown}: must not be empty; {remedy}")
    elif isinstance(given, dict) and not isinstance(usual, dict) and (is_text or usual not in (None, "run")):
        raise UserError(f"{key}={given}: must be one {'text' if is_text else f'value, such as {usual}'}")
    elif isinstance(given, list) and (is_text or _is_single(usual)) and key not in FREE:
        raise UserError(f"{key}={given}: must be one {'text' if is_text else 'value'}, no list")
    elif isinstance(usual, dict) and not isinstance(given, dict):
        raise UserError(f"{key}={given}: is a part with keys of its own ({shortened(list(usual))}); give {key}.KEY=...")


def _is_single(usual: Any) -> bool:
    """Returns whether a default says that its key takes one value; `run` and `auto` stand for any."""
    return isinstance(usual, bool | int | float) or (isinstance(usual, str) and usual not in ("run", "auto"))


def _check_kind(key: str, given: Any, usual: Any) -> None:
    """Raises UserError if a value is not of the kind of the usual one; null may stand for most numbers."""
    if isinstance(usual, bool):
        if not isinstance(given, bool):
            raise UserError(f"{key}={given}: must be true or false")
    elif given is None and NEEDED.fullmatch(key) and key.rpartition(".")[2] not in OPTIONAL:
        if is_number(usual) or (isinstance(usual, list) and any(map(is_number, usual))):
            raise UserError(f"{key}=null: must not be empty; give {key}=..., or leave it out for its default")
    elif is_number(usual) and given is not None and key not in FREE:
        if not is_number(given) or math.isnan(given):
            raise UserError(f"{key}={given}: must be a number, such as {usual}")
    elif isinstance(usual, list) and usual and all(map(is_number, usual)) and given is not None:
        values = given if isinstance(given, list) else [math.nan]
        if any(not is_number(value) or math.isnan(value) for value in values):
            raise UserError(f"{key}={given}: must be numbers, such as {usual}")


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
