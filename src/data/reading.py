"""Reads image and mask files: upright, whole or not at all, each fault with the file's name. Without torch."""

import io
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from src.data.frame import Frame
from src.data.png import first_rows, plain_size
from src.errors import UserError

if TYPE_CHECKING:
    from src.data.source import Sample

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class FileFrame(Frame):
    """A pair of files. The image is decoded down to the last row that is asked for, the mask whole, both once."""

    def __init__(self, sample: "Sample", read_labels: Callable[["Sample"], np.ndarray]) -> None:
        self.sample, self.read_labels = sample, read_labels
        self.picture = Picture(sample.image)
        self.size = self.picture.size

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.picture.read(top + height)[top : top + height, left : left + width]

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._ids[top : top + height, left : left + width]

    @cached_property
    def _ids(self) -> np.ndarray:
        ids = self.read_labels(self.sample)
        if ids.shape != self.size:
            raise UserError(
                f"{self.sample.mask}: mask is {ids.shape[0]}x{ids.shape[1]} (HxW) but its image {self.sample.image} is "
                f"{self.size[0]}x{self.size[1]}; make them the same size, without interpolating labels"
            )
        return ids


class Picture:
    """An image file, RGB uint8, upright by its EXIF tag. A plain PNG is decoded only as far down as it is asked for.

    Raises:
        UserError: the file cannot be decoded whole, or has more than 8 bits; names it.
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
            raise UserError(f"{self.path}: {image.mode} pixels have more than 8 bits; convert the image to 8-bit RGB")
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 `(H, W, 3)`, turned upright by its EXIF tag. UserError names a file that cannot be decoded whole."""
    picture = Picture(path)
    return picture.read(picture.size[0])


def read_mask(path: Path, table: dict[int, int]) -> np.ndarray:
    """Ids uint8 `(H, W)`, 0..K-1 or 255, through `table`. UserError names the file and the label outside the table."""
    mask = _upright(path, None)
    if mask.mode not in ("L", "P", "1"):
        raise UserError(f"{path}: a mask holds one label a pixel (PNG mode L or P), this one is {mask.mode}")
    raw = np.asarray(mask, dtype=np.uint8)
    ids, unknown = np.zeros(256, dtype=np.uint8), np.ones(256, dtype=np.uint8)
    ids[list(table)], unknown[list(table)] = list(table.values()), 0
    # OpenCV's tables are four times as fast as numpy's.
    if cv2.countNonZero(cv2.LUT(raw, unknown)):
        wrong, counts = np.unique(raw[unknown[raw] == 1], return_counts=True)
        found = ", ".join(f"{label} ({count} px)" for label, count in zip(wrong, counts, strict=True))
        raise UserError(f"{path}: label {found} is not in the label table {_ranges(sorted(table))}; mend the mask")
    return cv2.LUT(raw, ids)


def list_images(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, sorted. UserError when the folder is missing or two files share a stem."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in images:
                raise UserError(f"{path}: {images[path.stem].name} has the same name; keep one of them")
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


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return UserError(f"{path}: cannot be read ({reason}); replace or remove the file")


def _ranges(labels: list[int]) -> str:
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in runs)
