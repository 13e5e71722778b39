"""Labelled areas of an annotation tool's export: polygons and bitmaps, and the pixels that they cover."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from src.data.frame import Colour
from src.data.listing import is_image, walk
from src.errors import UserError

Ring = np.ndarray  # float (N, 2): x, y in pixels; the image covers 0..W, 0..H, a pixel's centre is at .5


@dataclass(frozen=True)
class Shape:
    """One labelled area: the union of its polygons, or a bitmap.

    Args:
        label: name of the class.
        polygons: each is an outline and its holes (even-odd rule).
        bitmap: bool `(h, w)`, in place of polygons.
        corner: row and column of the bitmap in the image.
    """

    label: str
    polygons: tuple[tuple[Ring, ...], ...] = ()
    bitmap: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)

    def cover(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Returns the part of an image of this size (height, width) that holds the area, and its pixels bool there."""
        if self.bitmap is not None:
            top, left = self.corner
            first, last = (max(0, top), max(0, left)), (top + self.bitmap.shape[0], left + self.bitmap.shape[1])
            rows, columns = (slice(a, max(a, min(b, end))) for a, b, end in zip(first, last, size, strict=True))
            inside = self.bitmap[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            return (rows, columns), inside
        corners = np.concatenate([ring for rings in self.polygons for ring in rings])
        low = np.clip(np.floor(corners.min(0)), 0, size[::-1]).astype(int)
        high = np.clip(np.ceil(corners.max(0)), low, size[::-1]).astype(int)
        part = (int(high[1] - low[1]), int(high[0] - low[0]))
        covered = np.zeros(part, dtype=bool)
        for rings in self.polygons:
            covered |= fill([ring - low for ring in rings], part)
        return (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))), covered


@dataclass(frozen=True)
class LabelledImage:
    """An image file with its areas in the order in which they are drawn: a later one covers an earlier one.

    Args:
        name: path of the image without its suffix, relative to the folder of images.
        size: height and width by the export; None if it does not say.
    """

    name: str
    image: Path
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None


@dataclass
class Export:
    """The content of an export.

    Args:
        classes: names in the order of the ids; None if the export has no list.
        colours: of the classes, as far as the export has them.
        left_out: objects that have no area, by their kind (`point`).
    """

    images: list[LabelledImage]
    classes: list[str] | None = None
    colours: dict[str, Colour] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


class ImageFolder:
    """The images of a folder and its sub-folders, found by the path or the name that an export gives."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"images={folder}: no such folder; give images=DIR, the folder of the images")
        self.folder = folder
        self.paths = {path.relative_to(folder).as_posix(): path for path in walk(folder) if is_image(path)}
        self._by_name: dict[str, list[Path]] = {}
        for path in self.paths.values():
            for key in {path.name, path.stem}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str, file: Path) -> Path:
        """Returns the image of this path, name, or name without suffix. UserError if there is none, or several.

        Folders that both paths have, counted from the name up, must be the same: `val/1.jpg` is not `train/1.jpg`. Of
        several such images, it is the one that shares the most folders.

        Args:
            file: the file of the export, for the message.
        """
        plain = name.replace("\\", "/")
        if plain in self.paths:
            return self.paths[plain]
        *folders, last = plain.split("/")
        named = self._by_name.get(last) or self._by_name.get(Path(last).stem, [])
        shared = [self._shared(path, folders) for path in named]
        best = max(shared, default=0)
        found = [path for path, count in zip(named, shared, strict=True) if count == best >= 0]
        if len(found) != 1:
            why = f"{len(found)} images of this name" if found else "no such image"
            if named and not found:
                why += f", only {named[0].relative_to(self.folder)},"
            raise UserError(f"{file}: {name!r}: {why} in {self.folder}; give images=DIR, the folder of the images")
        return found[0]

    def find_beside(self, name: str, file: Path) -> Path:
        """Returns the image of this path relative to the folder of a file of the export, or else as `find` does."""
        path = Path(os.path.normpath(file.parent / name.replace("\\", "/"))).absolute()
        folder = self.folder.absolute()
        beside = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""
        return self.paths.get(beside) or self.find(name, file)

    def _shared(self, path: Path, folders: Sequence[str]) -> int:
        """Returns how many folders above an image have the given names, from the lowest up; -1 if one has another."""
        own = path.relative_to(self.folder).parts[:-1]
        pairs = list(zip(reversed(own), reversed(folders), strict=False))
        return len(pairs) if all(a == b for a, b in pairs) else -1

    def labelled(self, image: Path, shapes: Iterable[Shape], size: tuple[int, int] | None = None) -> LabelledImage:
        """Returns an image of this folder with its areas."""
        name = image.relative_to(self.folder).with_suffix("").as_posix()
        return LabelledImage(name, image, tuple(shapes), size)


def fill(rings: Sequence[Ring], size: tuple[int, int]) -> np.ndarray:
    """Returns bool `(height, width)`: pixels whose centre is within an odd number of the closed rings.

    A centre on an edge belongs to the area on its right, or below: areas with a common edge neither overlap nor leave
    a gap.
    """
    height, width = size
    starts = np.concatenate([np.asarray(ring, dtype=np.float64) for ring in rings])
    ends = np.concatenate([np.roll(np.asarray(ring, dtype=np.float64), -1, axis=0) for ring in rings])
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    # The rows whose centres lie in the half-open range from the upper to the lower end of each edge.
    first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (upper, lower))
    counts = last - first
    edge = np.repeat(np.arange(len(starts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    (x, y), (dx, dy) = starts[edge].T, (ends - starts)[edge].T
    crossing = x + (row + 0.5 - y) * dx / dy
    toggles = np.zeros((height, width + 1), dtype=bool)
    np.logical_xor.at(toggles, (row, np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)), True)
    return np.logical_xor.accumulate(toggles, axis=1)[:, :width]


def hex_colour(text: str) -> Colour:
    """Returns the RGB of `#rrggbb`. Raises ValueError for another text."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def ring(points: object, file: Path) -> Ring:
    """Returns points `(N, 2)`, or their flat list x y x y ..., as an array. UserError if they are no polygon."""
    try:
        array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{file}: {str(points)[:60]!r} is no list of points x, y; export the annotations again"
        ) from error
    if len(array) < 3 or not np.isfinite(array).all():
        raise UserError(
            f"{file}: {str(points)[:60]!r} is no polygon: it needs three finite points; mend the annotation"
        )
    return array


def runs(counts: Iterable[int], size: tuple[int, int], order: str = "C") -> np.ndarray:
    """Decodes lengths of runs, in turn outside and inside, to bool `(height, width)`.

    Args:
        order: `C` along rows (CVAT), `F` along columns (COCO).

    Raises:
        ValueError: the runs do not add up to the size.
    """
    lengths = np.fromiter(counts, dtype=np.int64)
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size, order="F" if order == "F" else "C")
