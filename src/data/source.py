"""What a dataset is: labelled images with classes, palette, splits, groups. Without torch: it is checked early."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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
    the order of the label ids 0..K-1) and `splits`.
    """

    labels: str
    classes: dict[str, tuple[int, int, int]]
    splits: tuple[str, ...]

    @abstractmethod
    def samples(self, split: str) -> list[Sample]:
        """All samples of a split, in a fixed order. ValueError when there is none, or the split is unknown."""

    @abstractmethod
    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` RGB and mask uint8 `(H, W)` with ids 0..K-1 or 255."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def check_split(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(f"split {split!r} is not one of this dataset's: {', '.join(self.splits)}")


class FileSource(Source):
    """Samples that are pairs of files: an image, and a PNG of raw labels that `table` turns into ids.

    `table` maps each raw label that may stand in a file to an id 0..K-1 or 255; any other label is an error, for
    silently ignoring it would hide a wrong label set.
    """

    table: dict[int, int]

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(sample.image)
        mask = read_mask(sample.mask, self.table)
        if image.shape[:2] != mask.shape:
            raise ValueError(
                f"{sample.mask}: mask is {mask.shape[0]}x{mask.shape[1]} (HxW) but its image {sample.image} is "
                f"{image.shape[0]}x{image.shape[1]}; make them the same size, without interpolating labels"
            )
        return image, mask


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 `(H, W, 3)`, turned upright by its EXIF tag. ValueError names a file that cannot be decoded whole."""
    image = _decode(path)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{path}: {image.mode} pixels have more than 8 bits; convert the image to 8-bit RGB")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path, table: dict[int, int]) -> np.ndarray:
    """Ids uint8 `(H, W)`, 0..K-1 or 255, through `table`. ValueError names the file and the label outside the table."""
    mask = _decode(path)
    if mask.mode not in ("L", "P", "1"):
        raise ValueError(f"{path}: a mask holds one label a pixel (PNG mode L or P), this one is {mask.mode}")
    raw = np.asarray(mask, dtype=np.uint8)
    lookup = np.full(256, -1, dtype=np.int16)
    lookup[list(table)] = list(table.values())
    ids = lookup[raw]
    if ids.min() < 0:
        wrong, counts = np.unique(raw[ids < 0], return_counts=True)
        found = ", ".join(f"{label} ({count} px)" for label, count in zip(wrong, counts, strict=True))
        raise ValueError(f"{path}: label {found} is not in the label table {_ranges(sorted(table))}; mend the mask")
    return ids.astype(np.uint8)


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


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{path}: cannot be read ({reason}); replace or remove the file") from error


def _ranges(labels: list[int]) -> str:
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in runs)
