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
from src.errors import DataError

if TYPE_CHECKING:
    from src.data.source import Sample

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class FileFrame(Frame):
    """A pair of files. The image is decoded down to the last row that is asked for, the mask whole, both once."""

    def __init__(self, sample: "Sample", read_labels: Callable[["Sample"], np.ndarray]) -> None:
        assert sample.image is not None
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
            raise wrong_size(self.sample, ids.shape, self.size)
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
            text = f"{image.mode} pixels have more than 8 bits; convert the image to 8-bit RGB"
            raise DataError(self.path, "pixel format", text)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 `(H, W, 3)`, turned upright by its EXIF tag. UserError names a file that cannot be decoded whole."""
    picture = Picture(path)
    return picture.read(picture.size[0])


def read_mask(path: Path, table: dict[int, int]) -> np.ndarray:
    """Ids uint8 `(H, W)`, 0..K-1 or 255, through `table`. UserError names the file and the label outside the table."""
    mask = _upright(path, None)
    if mask.mode not in ("L", "P", "1"):
        text = f"a mask holds one label per pixel (PNG mode L or P), this one is {mask.mode}"
        raise DataError(path, "pixel format", text)
    raw = np.asarray(mask, dtype=np.uint8)
    ids, unknown = np.zeros(256, dtype=np.uint8), np.ones(256, dtype=np.uint8)
    ids[list(table)], unknown[list(table)] = list(table.values()), 0
    # OpenCV's tables are four times as fast as numpy's.
    if cv2.countNonZero(cv2.LUT(raw, unknown)):
        wrong, counts = np.unique(raw[unknown[raw] == 1], return_counts=True)
        pixels = {str(label): int(count) for label, count in zip(wrong, counts, strict=True)}
        found = ", ".join(f"{label} ({count} px)" for label, count in pixels.items())
        text = f"label {found} is not in the label table {_ranges(sorted(table))}; mend the mask"
        raise DataError(path, "label", text, pixels)
    return cv2.LUT(raw, ids)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is stored, from its header. DataError if it has none that can be read."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise _unreadable(path, error) from error


def wrong_size(sample: "Sample", mask: tuple[int, ...], image: tuple[int, ...]) -> DataError:
    """The fault of a mask whose size (height, width) is not its image's."""
    assert sample.mask is not None
    text = (
        f"mask is {mask[0]}x{mask[1]} (HxW) but its image {sample.image} is {image[0]}x{image[1]}; make them the same "
        "size, without interpolating labels"
    )
    return DataError(sample.mask, "size", text)


def _upright(path: Path, data: bytes | None) -> Image.Image:
    """The image of a file (of its bytes, where they are read already), decoded and turned by its EXIF tag."""
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return DataError(path, "unreadable", f"cannot be read ({reason}); replace or remove the file")


def _ranges(labels: list[int]) -> str:
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in runs)
