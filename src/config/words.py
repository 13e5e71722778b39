"""The words of a command line: paths and names are a user's data, whatever Hydra's grammar would make of them."""

import re
import shlex
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from src.config.flat import flatten, to_dict
from src.errors import UserError

# Keys that hold a path or the name of a folder: a number given to one of them is a text.
TEXTS = (
    "name", "run", "runs", "input", "output", "out", "folder", "from", "checkpoint", "init_from", "data.root",
    "data.pack", "engine", "crossval.init_from", "data.suffix", "data.group", "data.labels",
)  # fmt: skip
# Hydra's options, those that take a value apart. The folder of the configurations is this program's.
SWITCHES = ("-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run", "-m", "--multirun")
VALUED = ("-c", "--cfg", "-p", "--package", "-sc", "--shell-completion", "-i", "--info", "--experimental-rerun")
# Commands that take words without a key, and the key whose list they become.
PLAIN = {"report": "runs"}
NUMBER = re.compile(r"[+-]?[\d.][\d_.]*([eE][+-]?\d+)?|true|false|inf|nan", re.IGNORECASE)
OUTSIDE_DOUBLE_QUOTES = re.compile(r'["$`\\!]')  # which a shell interprets even between double quotes


def quoted(value: Path | str) -> str:
    """Quotes a path as a value on a command line, whatever characters it has."""
    return QuotedString(str(value), Quote.single).with_quotes()


def shell_word(key: str, value: Path | str) -> str:
    """Writes `key=value` as a user types it: quoted for Hydra, and around that for the shell."""
    word = f"{key}={quoted(value)}"
    return shlex.quote(word) if OUTSIDE_DOUBLE_QUOTES.search(word) else f'"{word}"'


def check_options(words: list[str]) -> None:
    """Raises UserError for a word that begins as an option of the command line, but is none of Hydra's."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not name.lstrip("+~") or name.startswith("@"):
            raise UserError(f"{word!r} names no key; give key=value")
        is_value = place > 0 and words[place - 1] in VALUED
        if not name.startswith("-") or is_value or (name in VALUED) or (name in SWITCHES and not equals):
            continue
        key, following = name.lstrip("-").replace("-", "_"), words[place + 1 : place + 2]
        if not equals and following and "=" not in following[0] and not following[0].startswith("-"):
            value = following[0]
        hint = f"{key}={value or '...'}" if key and name not in SWITCHES else "key=value"
        raise UserError(f"{word} is no option here; settings have no dashes: {hint}; --help lists them")


def gather_words(words: list[str], key: str | None) -> list[str]:
    """Returns a command line whose words without a key, such as paths, are one word `key=[...]` in place of the first.

    If `key` is None, the words are returned as they are.

    Raises:
        UserError: `key=` is given beside them.
    """
    is_plain = [_is_plain(word, before) for word, before in zip(words, ["", *words], strict=False)]
    plain = [word for word, is_one in zip(words, is_plain, strict=True) if is_one]
    if key is None or not plain:
        return words
    if any(word.startswith(f"{key}=") for word in words):
        raise UserError(f"{plain[0]}: is given beside {key}=; give all folders as plain words, or all in {key}=[...]")
    gathered = f"{key}=[{','.join(quoted(home_path(word)) for word in plain)}]"
    others = [word for word, is_one in zip(words, is_plain, strict=True) if not is_one]
    return [*others[: is_plain.index(True)], gathered, *others[is_plain.index(True) :]]


def _is_plain(word: str, before: str) -> bool:
    """Returns whether a word has no key: neither an option, nor the value of the option before it."""
    if word.startswith("-") or before in VALUED:
        return False
    return "=" not in word or ("/" in word.partition("=")[0] and Path(word).exists())


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
