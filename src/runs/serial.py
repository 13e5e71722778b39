"""Records as JSON: one key per field of a dataclass, with the texts that the class adds for readers."""

import json
import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from src.files import plain, write_json

T = TypeVar("T")


def write_record(path: Path, record: Any) -> None:
    """Writes a record as JSON, whole or not at all; NaN becomes null."""
    write_json(path, to_json(record))


def read_record(path: Path, kind: type[T]) -> T:
    """Reads a record of type `kind`, such as `FoldsRecord` or `tuple[StageRecord, ...]`."""
    return from_json(kind, json.loads(path.read_text()))


def is_written(path: Path, record: Any) -> bool:
    """Returns whether the file holds exactly this record."""
    return path.is_file() and json.loads(path.read_text()) == plain(to_json(record))


def to_json(value: Any) -> Any:
    """Turns a record into objects, lists and numbers.

    A dataclass may have `add_texts(content)`, which returns its JSON object with texts added; fields that give way to
    a text move into an object under the key `fields`.
    """
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        add_texts = getattr(value, "add_texts", None)
        return content if add_texts is None else add_texts(content)
    if isinstance(value, dict):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [to_json(each) for each in value] if isinstance(value, (list, tuple)) else value


def from_json(kind: Any, value: Any) -> Any:
    """Builds a value of type `kind` from what `to_json` made of it; null is NaN where `kind` is float."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else from_json(arguments[0], value)
    if origin is dict:
        return {key: from_json(arguments[1], each) for key, each in value.items()}
    if origin in (list, tuple, frozenset):
        return origin(from_json(arguments[0], each) for each in value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints, value = get_type_hints(kind), {**value, **value.get("fields", {})}
        return kind(**{field.name: from_json(hints[field.name], value[field.name]) for field in fields(kind)})
    return math.nan if kind is float and value is None else value
