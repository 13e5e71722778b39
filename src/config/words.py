"""The words of a command line: paths and names are a user's data, whatever Hydra's grammar would make of them."""

import re
import shlex
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from src.config.flat import flatten, to_dict

# Keys that hold a path or the name of a folder: a number given to one of them is a text.
TEXTS = ("name", "run", "runs", "input", "output", "out", "folder", "checkpoint", "init_from", "data.root", "data.pack")
NUMBER = re.compile(r"[+-]?[\d.][\d_.]*([eE][+-]?\d+)?|true|false|inf|nan", re.IGNORECASE)
OUTSIDE_DOUBLE_QUOTES = re.compile(r'["$`\\!]')  # which a shell interprets even between double quotes


def quoted(value: Path | str) -> str:
    """Quotes a path as a value on a command line, whatever characters it has."""
    return QuotedString(str(value), Quote.single).with_quotes()


def shell_word(key: str, value: Path | str) -> str:
    """Writes `key=value` as a user types it: quoted for Hydra, and around that for the shell."""
    word = f"{key}={quoted(value)}"
    return shlex.quote(word) if OUTSIDE_DOUBLE_QUOTES.search(word) else f'"{word}"'


def prepare_word(word: str) -> str:
    """Returns a word of the command line with `~` as the home folder, and with a number as a text if it is a name.

    Shells leave the `~` of `data.root=~/d` to the program, and Hydra's grammar has no such value.
    """
    key, equals, value = word.partition("=")
    if not equals:
        return word
    if value == "~" or value.startswith("~/"):
        return f"{key}={quoted(home_path(value))}"
    return f"{key}={quoted(value)}" if key in TEXTS and NUMBER.fullmatch(value) else word


def home_path(value: Any) -> Any:
    """Returns a text that begins with `~/` with the home folder in its place, also within lists; else the value."""
    if isinstance(value, list):
        return [home_path(item) for item in value]
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    return value


def settle_paths(cfg: DictConfig) -> None:
    """Replaces `~` in every value of a composed configuration, and numbers by texts where a path or name stands."""
    for key, value in flatten(to_dict(cfg)).items():
        changed = home_path(value)
        if key in TEXTS and isinstance(value, int | float):
            changed = str(value)
        if changed != value:
            OmegaConf.update(cfg, key, changed)
