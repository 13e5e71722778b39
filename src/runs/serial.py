"""Reads the records that `src.files.write_json` writes, one key per field of a dataclass."""

import math
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from src.errors import UserError
from src.files import damaged, has_file, plain, read_json

T = TypeVar("T")


def read_record(path: Path, kind: type[T]) -> T:
    """Reads a record of type `kind`, such as `FoldsRecord` or `tuple[StageRecord, ...]`.

    Raises:
        UserError: the file is damaged.
    """
    content = read_json(path)
    try:
        return from_json(kind, content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def is_written(path: Path, record: Any) -> bool:
    """Returns whether the file holds exactly this record."""
    try:
        return has_file(path) and read_json(path) == plain(record)
    except UserError:
        return False


def from_json(kind: Any, value: Any) -> Any:
    """Builds a value of type `kind` from what `src.files.plain` made of it; null is NaN where `kind` is float.

    A field with a default may be missing: records of earlier versions do not have it.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else from_json(arguments[0], value)
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} is no object")
        return {key: from_json(arguments[1], each) for key, each in value.items()}
    if origin in (list, tuple, frozenset):
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        return origin(from_json(arguments[0], each) for each in value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints, value = _hints(kind), {**value, **value.get("fields", {})}
        present = [field for field in fields(kind) if field.name in value or not _has_default(field)]
        return kind(**{field.name: from_json(hints[field.name], value[field.name]) for field in present})
    if kind is float:
        value = math.nan if value is None else value
        allowed: tuple[type, ...] = (float, int)
    else:
        allowed = (kind,) if isinstance(kind, type) else (object,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _has_default(field: Field) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
