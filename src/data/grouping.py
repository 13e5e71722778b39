"""Merges, renames and drops the classes of any dataset, by a table from the ids of its files to those learnt."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import cv2
import numpy as np

from src.data.frame import Colour, Frame
from src.errors import UserError, shortened
from src.labels import IGNORE_INDEX

AnySource = TypeVar("AnySource", bound=Any)
# Keys by which Hydra builds an object, and the name of void in lists of classes.
RESERVED = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")
IGNORE = "ignore"


@dataclass(frozen=True)
class Grouping:
    """The table from the classes of a dataset's files to those that a run learns.

    Args:
        labels: the label set of the files.
        stored: the classes of the files, name to colour, in the order of their ids.
        members: the name of each class learnt, in the order of the ids, to the names of the classes merged into it.
    """

    labels: str
    stored: dict[str, Colour]
    members: dict[str, tuple[str, ...]]

    @cached_property
    def table(self) -> np.ndarray:
        """The new id of each id in the files: uint8 `(256,)`; 255 for the classes that are dropped, and for 255."""
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        ids = list(self.stored)
        for index, names in enumerate(self.members.values()):
            table[[ids.index(name) for name in names]] = index
        return table

    @property
    def classes(self) -> dict[str, Colour]:
        """The classes learnt, name to colour: that of the first class merged into each."""
        return {name: self.stored[names[0]] for name, names in self.members.items()}

    @property
    def new_labels(self) -> str:
        """A name for the label set, which no other grouping has."""
        content = json.dumps([list(self.members.items()), list(self.stored)])
        return f"{self.labels}-to-{len(self.members)}-{hashlib.sha256(content.encode()).hexdigest()[:6]}"

    def categories(self, given: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        """Names the new classes of each category; none at all if a class is merged from several categories."""
        found = {}
        for category, names in given.items():
            parts = {new: set(names).intersection(old) for new, old in self.members.items()}
            if any(part and part != set(self.members[new]) for new, part in parts.items()):
                return {}
            if group := tuple(new for new, part in parts.items() if part):
                found[category] = group
        return found


class GroupedFrame(Frame):
    """A frame whose mask has the ids of a grouping's classes."""

    def __init__(self, frame: Frame, table: np.ndarray) -> None:
        self.frame, self.table, self.size = frame, table, frame.size

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.frame.image(top, left, height, width)

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return cv2.LUT(self.frame.mask(top, left, height, width), self.table)


def regroup(source: AnySource, merge: Mapping[str, Any] | None, ignore: Sequence[Any] | None) -> AnySource:
    """Makes a source give other classes than its files have. Returns the source.

    A merged class has the place and the colour of the first class in its list. Files and packs stay as they are.

    Args:
        source: a `Source` as it was built.
        merge: names of classes by the name of the class that replaces them; one name renames a class.
        ignore: names of classes whose pixels are neither learnt nor counted.

    Raises:
        UserError: an unknown name, one that is used twice or stays beside a new class of this name, a value of another
            kind, or fewer than two classes left.
    """
    if not merge and not ignore:
        return source
    merged = {str(new): _names(f"data.merge.{new}", old) for new, old in _as_mapping(merge).items()}
    dropped = _names("data.ignore", ignore) if ignore else ()
    given = [("data.ignore", name) for name in dropped]
    given += [(f"data.merge.{new}", name) for new, names in merged.items() for name in names]
    _check(list(source.classes), merged, given)
    used = {name for _, name in given}
    kept = {name: (name,) for name in source.classes if name not in used}
    # Each in the place of the class that is first in its list.
    places = {names[0]: (new, names) for new, names in (kept | merged).items()}
    members = dict(places[name] for name in source.classes if name in places)
    if len(members) < 2:
        raise UserError(
            f"data.merge and data.ignore leave {', '.join(members) or 'no class'}; leave at least 2 classes"
        )
    grouping = Grouping(source.labels, dict(source.classes), members)
    whole = {names[0]: new for new, names in members.items() if len(names) == 1}  # classes that nothing is merged into
    source.grouping, source.labels, source.classes = grouping, grouping.new_labels, grouping.classes
    source.categories = grouping.categories(source.categories)
    sizes = source.instance_sizes.items()
    names = {name: new for name, new in whole.items() if new not in source.categories}  # figures have one name each
    source.instance_sizes = {names[name]: size for name, size in sizes if name in names}
    source.detected = next((new for new, names in members.items() if source.detected in names), None)
    return source


def _as_mapping(merge: Any) -> Mapping[str, Any]:
    if merge is not None and not isinstance(merge, Mapping):
        raise UserError(f"data.merge={merge}: must be lists of classes by new name, such as {{vehicle: [car, bus]}}")
    return merge or {}


def _names(key: str, given: Any) -> tuple[str, ...]:
    """Returns names of classes, of which one may be given as text. UserError for a value of another kind, or none."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str | int | float) for name in names):
        raise UserError(f"{key}={given}: must be a list of names of classes, such as [car, bus]")
    return tuple(map(str, names))


def _check(known: list[str], merged: Mapping[str, tuple[str, ...]], given: list[tuple[str, str]]) -> None:
    """Raises UserError for a name that is unknown, used twice, or that a new class shares with one that stays."""
    first: dict[str, str] = {}
    for key, name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, cutoff=0.5)
            hint = f"the nearest are {', '.join(near)}" if near else f"allowed are {shortened(known, 20)}"
            raise UserError(f"{key}: {name!r} is no class of this dataset; {hint}")
        if name in first:
            place = f"{first[name]} too" if first[name] != key else "it twice"
            raise UserError(f"{key}: {name!r} is in {place}; a class becomes one other class, or is ignored")
        first[name] = key
    for new in merged:
        if new in known and new not in first:
            raise UserError(
                f"data.merge.{new}: the dataset has a class of this name, which is not in the list; add it to the "
                "list, or give another name"
            )
        if new in (*RESERVED, IGNORE) or not new:
            raise UserError(f"data.merge.{new}: the name has a meaning of its own; give another, or use data.ignore")
