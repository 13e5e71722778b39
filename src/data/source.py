"""What a dataset is: labelled images with classes, palette, splits, groups. Without torch: it is checked early."""

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from src.data.frame import ArrayFrame, Frame
from src.data.png import first_rows, plain_size

IGNORE_INDEX = 255
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Sample:
    """One labelled image: `name` is unique in its split, `group` must never be on two sides of a split (a drive)."""

    name: str
    group: str
    image: Path | None = None
    mask: Path | None = None


class Source(ABC):
    """Labelled images of one dataset.

    Subclasses set `labels` (the name of the label set, part of every protocol tag), `classes` (name to RGB colour, in
    the order of the label ids 0..K-1), `splits`, and of these: `unlabelled`, which have images alone (a benchmark's
    test), and `extra_splits`, which are trained on beside train and never validated on (coarse labels).
    """

    labels: str
    classes: dict[str, tuple[int, int, int]]
    splits: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    extra_splits: tuple[str, ...] = ()

    @abstractmethod
    def samples(self, split: str) -> list[Sample]:
        """All samples of a split, in a fixed order. ValueError when there is none, or the split is unknown."""

    @abstractmethod
    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` RGB and mask uint8 `(H, W)` with ids 0..K-1 or 255."""

    def open(self, sample: Sample) -> Frame:
        """The same, read as far as its windows are asked for."""
        return ArrayFrame(*self.read(sample))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def check_split(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(f"split {split!r} is not one of this dataset's: {', '.join(self.splits)}")

    def check_labelled(self, split: str) -> None:
        """ValueError where a split has no labels to train on or to evaluate against."""
        if split in self.unlabelled:
            others = ", ".join(name for name in self.splits if name not in self.unlabelled)
            raise ValueError(
                f"split {split!r} of {self.labels} has no public labels; choose one of {others}, or write files for "
                f"the benchmark's server: python -m src.predict run=... split={split} format=labelids"
            )

    def weights(self, samples: list[Sample]) -> np.ndarray | None:
        """How often each comes in a training epoch, on average: float `(N,)` with sum N. None: each once."""
        return None

    @abstractmethod
    def image_id(self, sample: Sample) -> str:
        """The image's name wherever the data are, in whatever split, layout, label set or join of datasets."""

    def official_path(self, sample: Sample) -> str:
        """Where a benchmark's server looks for this prediction in an archive. ValueError where there is no server."""
        raise ValueError(f"format=labelids: no benchmark takes files of {self.labels}; use format=pictures")


class FileSource(Source):
    """Samples that are pairs of files: an image, and a PNG of raw labels that `table` turns into ids.

    `table` maps each raw label that may stand in a file to an id 0..K-1 or 255; any other label is an error, for
    silently ignoring it would hide a wrong label set. `colours` does so for colours, where masks hold them. `dataset`
    begins the ids of its images, whatever the label set.
    """

    root: Path
    dataset: str
    table: dict[int, int]
    colours: dict[tuple[int, int, int], int] = {}
    pack: "Pack | None" = None  # where its frames are read from instead, if they are in it

    def open(self, sample: Sample) -> Frame:
        packed = self.pack.open(sample) if self.pack else None
        return packed or FileFrame(self, sample)

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        return self.open(sample).whole()

    def image_id(self, sample: Sample) -> str:
        return f"{self.dataset}/{sample.image.relative_to(self.root).with_suffix('').as_posix()}"

    def read_labels(self, sample: Sample) -> np.ndarray:
        """Ids uint8 `(H, W)`, 0..K-1 or 255. Overridden where a mask is not a PNG of one raw label a pixel."""
        return read_mask(sample.mask, self.table)


class Pack(Protocol):
    """Frames that were decoded before, of one source (`src.data.packed.PackedFrames`)."""

    def open(self, sample: Sample) -> Frame | None:
        """None where the sample is not in it."""


class FileFrame(Frame):
    """A pair of files. The image is decoded down to the last row that is asked for, the mask whole, both once."""

    def __init__(self, source: FileSource, sample: Sample) -> None:
        self.source, self.sample = source, sample
        self.picture = Picture(sample.image)
        self.size = self.picture.size

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.picture.read(top + height)[top : top + height, left : left + width]

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._ids[top : top + height, left : left + width]

    @cached_property
    def _ids(self) -> np.ndarray:
        ids = self.source.read_labels(self.sample)
        if ids.shape != self.size:
            raise ValueError(
                f"{self.sample.mask}: mask is {ids.shape[0]}x{ids.shape[1]} (HxW) but its image {self.sample.image} is "
                f"{self.size[0]}x{self.size[1]}; make them the same size, without interpolating labels"
            )
        return ids


class Picture:
    """An image file, RGB uint8, upright by its EXIF tag. A plain PNG is decoded only as far down as it is asked for.

    Raises:
        ValueError: the file cannot be decoded whole, or has more than 8 bits; names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = path.read_bytes()
            size = plain_size(self.data)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        self.pixels = np.empty((0, 0, 3), dtype=np.uint8) if size else self._decode(self.data)
        self.size = size or self.pixels.shape[:2]

    def read(self, bottom: int) -> np.ndarray:
        """Rows `(bottom, W, 3)` from the top, or more."""
        if len(self.pixels) < bottom:
            self.pixels = self._decode(first_rows(self.data, bottom))
        return self.pixels

    def _decode(self, data: bytes) -> np.ndarray:
        image = _upright(self.path, data)
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{self.path}: {image.mode} pixels have more than 8 bits; convert the image to 8-bit RGB")
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 `(H, W, 3)`, turned upright by its EXIF tag. ValueError names a file that cannot be decoded whole."""
    picture = Picture(path)
    return picture.read(picture.size[0])


def read_mask(path: Path, table: dict[int, int]) -> np.ndarray:
    """Ids uint8 `(H, W)`, 0..K-1 or 255, through `table`. ValueError names the file and the label outside the table."""
    mask = _upright(path, None)
    if mask.mode not in ("L", "P", "1"):
        raise ValueError(f"{path}: a mask holds one label a pixel (PNG mode L or P), this one is {mask.mode}")
    raw = np.asarray(mask, dtype=np.uint8)
    ids, unknown = np.zeros(256, dtype=np.uint8), np.ones(256, dtype=np.uint8)
    ids[list(table)], unknown[list(table)] = list(table.values()), 0
    # OpenCV's tables are four times as fast as numpy's.
    if cv2.countNonZero(cv2.LUT(raw, unknown)):
        wrong, counts = np.unique(raw[unknown[raw] == 1], return_counts=True)
        found = ", ".join(f"{label} ({count} px)" for label, count in zip(wrong, counts, strict=True))
        raise ValueError(f"{path}: label {found} is not in the label table {_ranges(sorted(table))}; mend the mask")
    return cv2.LUT(raw, ids)


def list_images(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, sorted. ValueError when the folder is missing or two files share a stem."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in images:
                raise ValueError(f"{path}: {images[path.stem].name} has the same name; keep one of them")
            images[path.stem] = path
    return images


def _upright(path: Path, data: bytes | None) -> Image.Image:
    """The image of a file (of its bytes, where they are read already), decoded and turned by its EXIF tag."""
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return ValueError(f"{path}: cannot be read ({reason}); replace or remove the file")


def _ranges(labels: list[int]) -> str:
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in runs)
