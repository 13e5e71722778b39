"""Reads image and mask files, upright, whole or not at all; errors name the file. Does not import torch."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.progress import Progress

from src.data.frame import ArrayFrame, Sample
from src.errors import DataError
from src.machine import is_first_process

Item = TypeVar("Item")
Result = TypeVar("Result")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class FileFrame(ArrayFrame):
    """An image file and its mask file. The image is decoded at once, the mask when a window of it is read."""

    def __init__(self, sample: Sample, read_labels: Callable[[Path], np.ndarray]) -> None:
        assert sample.image is not None, "a frame of files has an image file"
        self.sample, self.read_labels = sample, read_labels
        self._image = read_image(sample.image)
        self.size = self._image.shape[:2]

    @cached_property
    def _mask(self) -> np.ndarray:
        ids = self.read_labels(self.sample.files[1])
        if ids.shape != self.size:
            raise wrong_size(self.sample, ids.shape, self.size)
        return ids


def read_image(path: Path) -> np.ndarray:
    """Returns RGB uint8 `(H, W, 3)`, turned upright by its EXIF tag.

    Raises:
        DataError: the file cannot be decoded whole, or has more than 8 bits.
    """
    image = _upright(path)
    if image.mode.startswith(("I", "F")):
        text = f"{image.mode} pixels have more than 8 bits; convert the image to 8-bit RGB"
        raise DataError(path, "pixel format", text)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(path: Path, table: dict[int, int]) -> np.ndarray:
    """Returns ids uint8 `(H, W)`, 0..K-1 or 255, of a mask whose raw labels `table` maps to ids.

    Raises:
        DataError: the file cannot be decoded, does not hold one label per pixel, or has a label outside the table.
    """
    mask = _upright(path)
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
    """Returns height and width of an image as it is stored, from its header.

    Raises:
        DataError: the file has no header of an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise _unreadable(path, error) from error


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], num_threads: int, title: str
) -> Iterator[Result]:
    """Yields the results in order, under a progress bar. Decoders release Python's lock.

    An error cancels the items that wait.
    """
    pool = ThreadPoolExecutor(num_threads)
    try:
        with Progress(disable=not items or not is_first_process()) as bar:
            yield from bar.track(pool.map(function, items), len(items), description=title)
    finally:
        pool.shutdown(cancel_futures=True)


def wrong_size(sample: Sample, mask: tuple[int, ...], image: tuple[int, ...]) -> DataError:
    """Describes the fault of a mask whose size (height, width) is not its image's."""
    image_file, mask_file = sample.files
    text = (
        f"mask is {mask[0]}x{mask[1]} (HxW) but its image {image_file} is {image[0]}x{image[1]}; make them the same "
        "size, without interpolating labels"
    )
    return DataError(mask_file, "size", text)


def _upright(path: Path) -> Image.Image:
    """Decodes a file and turns the image by its EXIF tag."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.verify()  # a PNG's checksums, which decoding ignores: damage could be wrong pixels (.6 ms for 2.5 MB)
        with Image.open(io.BytesIO(data)) as image:
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
