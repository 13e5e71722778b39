"""Writes files whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it replaces `path` in one step if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, for writers that choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes text in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON in one step: NaN becomes null, so that any reader takes it."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def first_free(path: Path) -> Path:
    """Returns this path, or the first of `path-2`, `path-3`, ... that does not exist."""
    others = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(free for free in chain([path], others) if not free.exists())


def plain(value: Any) -> Any:
    """Returns the value as it is read back from a file of `write_json`, a dataclass as an object.

    A dataclass may have `add_texts(content)`, which returns its JSON object with texts added for readers; fields that
    give way to a text move into an object under the key `fields`.
    """
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        add_texts = getattr(value, "add_texts", None)
        return content if add_texts is None else add_texts(content)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and value != value:
        return None
    return value
