"""Reads image and mask files, upright, whole or not at all; errors name the file. Does not import torch."""

import io
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from src.data.file_faults import mask_fault, pictures_fault
from src.data.frame import RGB, ArrayFrame, ImageForm, Sample
from src.errors import DataError, UserError

ORIENTATION = 0x0112  # EXIF tag: 5 to 8 exchange rows and columns
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class FileFrame(ArrayFrame):
    """An image file and its mask file. The image is decoded at once, the mask when a window of it is read."""

    def __init__(self, sample: Sample, read_labels: Callable[[Path], np.ndarray], form: ImageForm = RGB) -> None:
        assert sample.image is not None, "a frame of files has an image file"
        self.sample, self.read_labels = sample, read_labels
        self._image = read_image(sample.image, form)
        self.size = self._image.shape[:2]

    @cached_property
    def _mask(self) -> np.ndarray:
        ids = self.read_labels(self.sample.files[1])
        if ids.shape != self.size:
            raise wrong_size(self.sample, ids.shape, self.size)
        return ids


def read_image(path: Path, form: ImageForm = RGB) -> np.ndarray:
    """Returns uint8 `(H, W, C)`, turned upright by its EXIF tag: RGB, and with 4 channels the fourth one.

    Raises:
        DataError: the file cannot be decoded whole, has several pictures, transparent pixels, or other bits or channels
            than the form.
    """
    if form.span is not None:
        return _read_deep(path, form, form.span)
    image = _upright(path, channels=form.channels)
    if form.channels == 4:
        if image.mode != "RGBA":
            raise DataError(
                path, "pixel format", f"{image.mode} pixels have no fourth channel, as data.channels=4 asks"
            )
        return np.asarray(image)
    return to_rgb(path, image)


def to_rgb(path: Path | str, image: Image.Image) -> np.ndarray:
    """Returns a picture of 8 bits per channel as RGB uint8 `(H, W, 3)`. DataError if pixels are transparent."""
    _check_opaque(path, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _read_deep(path: Path, form: ImageForm, span: tuple[int, int]) -> np.ndarray:
    """Reads a PNG or TIFF of 16 bits, which Pillow would cut to 8 if it has several channels."""
    check_regular(path)
    with _faults_of(path):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # OpenCV would decode a file that is cut off as far as it goes
            several = pictures_fault(image, data)
            turn = image.getexif().get(ORIENTATION, 1)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if several:
        raise DataError(path, "pixel format", several)
    if pixels is None or pixels.dtype != np.uint16:
        bits = "others" if pixels is None else 8 * pixels.itemsize
        raise DataError(path, "pixel format", f"data.range={list(span)} is for images of 16 bits; this one has {bits}")
    if turn != 1:
        raise DataError(path, "pixel format", "has 16 bits and an EXIF tag that turns it; save it upright")
    if pixels.ndim == 2 and form.channels == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim == 2 or pixels.shape[2] != form.channels:
        found = 1 if pixels.ndim == 2 else pixels.shape[2]
        raise DataError(path, "pixel format", f"has {found} channels, not data.channels={form.channels}")
    low, high = span
    scaled = (pixels.astype(np.float32) - low) * (255 / (high - low))
    order = [2, 1, 0, 3][: form.channels]  # OpenCV's is B, G, R
    return np.ascontiguousarray(np.rint(scaled).clip(0, 255).astype(np.uint8)[..., order])


def open_mask(path: Path) -> Image.Image:
    """Decodes a mask of mode L, P, 1 or RGB, whose pixels are exactly those that were saved.

    Raises:
        DataError: the file cannot be decoded, or its format changes or hides labels: lossy compression, more than 8
            bits, greys of 2 or 4 bits (decoders scale them), transparent pixels, several pictures, other channels.
    """
    mask = _upright(path, is_mask=True)
    if mask.mode != "P":
        _check_opaque(path, mask)
    if mask.mode in ("RGBA", "LA"):
        mask = mask.convert("RGB" if mask.mode == "RGBA" else "L")
    if mask.mode not in ("L", "P", "1", "RGB"):
        text = f"a mask holds labels (PNG mode L or P) or RGB colours, this one is {mask.mode}; save it as PNG"
        raise DataError(path, "pixel format", text)
    return mask


def read_mask(path: Path, table: dict[int, int]) -> np.ndarray:
    """Returns ids uint8 `(H, W)`, 0..K-1 or 255, of a mask whose raw labels `table` maps to ids.

    Raises:
        DataError: the file cannot be decoded, does not hold one label per pixel, or has a label outside the table.
    """
    mask = open_mask(path)
    if mask.mode == "RGB":
        text = "a mask holds one label per pixel (PNG mode L or P), this one is RGB"
        raise DataError(path, "pixel format", text)
    return ids_of_labels(path, np.asarray(mask, dtype=np.uint8), table)


def ids_of_labels(path: Path, raw: np.ndarray, table: dict[int, int]) -> np.ndarray:
    """Maps the raw labels uint8 `(H, W)` of a file to ids. DataError names labels outside the table."""
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


def read_numbers(path: Path) -> np.ndarray:
    """Returns the numbers int32 `(H, W)` of a PNG of 8 or 16 bits, such as those of instances.

    Raises:
        DataError: the file cannot be decoded, or has several channels.
    """
    with _faults_of(path), Image.open(path) as image:
        numbers = np.asarray(image).astype(np.int32)
    if numbers.ndim != 2:
        raise DataError(path, "pixel format", f"it holds one number per pixel, this one is {image.mode}")
    return numbers


def read_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Returns height and width of an image as it is stored, or as its EXIF tag turns it, from its header.

    Raises:
        DataError: the file has no header of an image.
    """
    check_regular(path)
    with _faults_of(path), Image.open(path) as image:
        is_turned = upright and image.getexif().get(ORIENTATION, 1) >= 5
        return (image.width, image.height) if is_turned else (image.height, image.width)


def read_text(path: Path) -> str:
    """Reads a text that a user wrote: UTF-8, with or without a byte-order mark.

    Raises:
        UserError: the file cannot be read, or has another encoding.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without a byte-order mark is valid UTF-8, with a zero beside each letter
        raise UserError(f"{path}: is not UTF-8 text; save it in the encoding UTF-8")
    return text


def read_beginning(path: Path, num_bytes: int) -> bytes:
    """Reads the first bytes of a file. DataError if it cannot be read."""
    check_regular(path)
    with _faults_of(path), path.open("rb") as file:
        return file.read(num_bytes)


def check_regular(path: Path) -> None:
    """Raises DataError if a path is not a regular file: reading a FIFO or a device may never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise DataError(path, "unreadable", f"cannot be read (it is {kind}, no regular file); remove it")


def wrong_size(sample: Sample, mask: tuple[int, ...], image: tuple[int, ...]) -> DataError:
    """Describes the fault of a mask whose size (height, width) is not its image's."""
    image_file, mask_file = sample.files
    stored = read_size(image_file)
    turned = f" when its EXIF tag has turned it ({stored[0]}x{stored[1]} as stored)" if stored != image else ""
    remedy = "turn the mask the same way" if turned else "make them the same size, without interpolating labels"
    text = f"mask is {mask[0]}x{mask[1]} (HxW) but its image {image_file} is {image[0]}x{image[1]}{turned}; {remedy}"
    return DataError(mask_file, "size", text)


def _upright(path: Path, is_mask: bool = False, channels: int = 3) -> Image.Image:
    """Decodes a file and turns the image by its EXIF tag. DataError if decoding would drop bits."""
    check_regular(path)
    with _faults_of(path):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.verify()  # a PNG's checksums, which decoding ignores: damage could be wrong pixels (.6 ms for 2.5 MB)
        with Image.open(io.BytesIO(data)) as image:
            packing = " ".join(str(tile.args) for tile in image.tile)  # such as RGB;16B, which is decoded to 8 bits
            fault = (mask_fault(image, data, packing) if is_mask else None) or pictures_fault(image, data)
            if channels == 4 and re.match(r"\('RGB[Xa]'", packing):
                # A TIFF's fourth channel of no stated meaning, which Pillow drops; or alpha that has been multiplied
                # into RGB, by which Pillow divides. Both are read as they are stored.
                image._mode = "RGBA"
                image.tile = [tile._replace(args=("RGBA", *(tile.args or ())[1:])) for tile in image.tile]
            ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")) or (image.format in ("PNG", "TIFF") and re.search(r";(16|32|64)", packing)):
        fault = f"{image.mode} pixels have more than 8 bits; convert the file to 8 bits per channel"
        if not is_mask and ";16" in packing:
            fault += ", or give the values that become black and white: data.range=[0,65535]"
    if fault:
        raise DataError(path, "pixel format", fault)
    return image


def _check_opaque(path: Path | str, image: Image.Image) -> None:
    """Raises DataError if pixels are transparent: a viewer hides the colours that would be read."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if transparent := int((alpha < 255).sum()):
            text = f"{transparent} pixels are transparent; flatten the picture and save it without alpha"
            if image.mode == "RGBA":
                text += ", or, if alpha is a fourth channel of an image, such as infrared, set data.channels=4"
            raise DataError(path, "pixel format", text)


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Makes any error a DataError: a decoder of a damaged file may raise anything."""
    try:
        yield
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, PermissionError):
        return DataError(path, "unreadable", "cannot be read (Permission denied); make it readable for you (chmod)")
    if isinstance(error, Image.DecompressionBombError):
        return DataError(path, "unreadable", f"cannot be read ({error}); cut it into tiles, or make it smaller")
    known = (OSError, SyntaxError, ValueError)
    reason = str(error) if isinstance(error, known) else f"{type(error).__name__}: {error}"
    if isinstance(error, UnidentifiedImageError):
        reason = "not an image"
    return DataError(path, "unreadable", f"cannot be read ({reason}); replace or remove the file")


def _ranges(labels: list[int]) -> str:
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in runs)
