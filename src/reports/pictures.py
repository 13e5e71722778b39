"""Draws masks as colours, overlays, error maps, panels and contact sheets, all uint8 RGB `(H, W, 3)`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.files import atomic_path
from src.metrics.figures import figures

Palette = Mapping[str, Sequence[int]]  # class name to colour, in the order of the ids
WRONG = (230, 40, 40)
STRIPES, STRIPE = ((255, 255, 255), (136, 136, 136)), 3  # of ignored pixels, and their width in pixels
GAP, TITLE = 4, 18
WIDTH = 320  # of each picture in panels and contact sheets, in pixels
SHEET_COLUMNS = 2  # pairs per row


def colourise(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Colours ids `(H, W)`, 0..K-1 or 255, which is black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = list(palette.values())
    return np.take(table, ids, axis=0)


def shown(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Colours ids `(H, W)` for people: 255 is striped, so that no colour of a class is taken for it."""
    return stripe(colourise(ids, palette), ids == 255)


def stripe(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Stripes pixels of a picture `(H, W, 3)`, which is changed, where a bool `(H, W)` is set; returns it."""
    rows, columns = np.nonzero(where)
    picture[rows, columns] = np.array(STRIPES, dtype=np.uint8)[(rows + columns) // STRIPE % 2]
    return picture


def overlay(image: np.ndarray, ids: np.ndarray, palette: Palette, opacity: float = 0.5) -> np.ndarray:
    """Lays the colours of ids `(H, W)` over an image, with an opacity of 0 to 1."""
    return cv2.addWeighted(image, 1 - opacity, shown(ids, palette), opacity, 0)


def error_map(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Draws a dim grey image with wrong pixels red and ignored ones striped."""
    grey = image.mean(axis=2, keepdims=True) * 0.4
    result = np.broadcast_to(grey, image.shape).astype(np.uint8).copy()
    result[prediction != truth] = WRONG
    return stripe(result, truth == 255)


def panel(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    palette: Palette,
    width: int = WIDTH,
    names: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> np.ndarray:
    """Draws one row per image: the image, its truth, its prediction and the error map; a legend below.

    Args:
        rows: image `(H, W, 3)`, truth ids `(H, W)` and predicted ids `(H, W)` each.
        width: width of each picture in pixels; heights keep the aspect.
        names: one per image, which stand above it, with its mIoU.
        titles: in place of names, one line above each row.
    """
    strips = []
    for index, (image, truth, prediction) in enumerate(rows):
        size = (width, max(1, round(width * image.shape[0] / image.shape[1])))
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        true, predicted = (
            np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST)) for ids in (truth, prediction)
        )
        row = _join([small, shown(true, palette), shown(predicted, palette), error_map(small, predicted, true)], axis=1)
        if titles:
            title = "image"
            strips.append(_header([titles[index]], row.shape[1]))
        else:
            title = f"mIoU {100 * image_miou(prediction, truth, len(palette)):.1f} %"
            title = f"{names[index]}: {title}" if names else title
        strips += [_header((title, "truth", "prediction", "errors"), width), row]
    strips.append(legend(palette, strips[0].shape[1], {"error": WRONG}))
    return _join(strips, axis=0)


def image_miou(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    """Computes the mIoU of one image over the classes that its truth or its prediction has; NaN without labels."""
    known = truth != 255
    pairs = num_classes * truth[known].astype(np.int64) + prediction[known]
    counts = np.bincount(pairs, minlength=num_classes**2)
    return figures(counts.reshape(num_classes, num_classes)).miou


def contact_sheet(pairs: Sequence[tuple[str, np.ndarray, np.ndarray]], palette: Palette) -> np.ndarray:
    """Draws (title, image uint8 `(H, W, 3)`, ids uint8 `(H, W)`) of any sizes as images and overlays, and a legend."""
    full_width = 2 * SHEET_COLUMNS * (WIDTH + GAP) - GAP
    strips = []
    for start in range(0, len(pairs), SHEET_COLUMNS):
        titles, cells = [], []
        for title, image, ids in pairs[start : start + SHEET_COLUMNS]:
            size = (WIDTH, max(1, round(WIDTH * image.shape[0] / image.shape[1])))
            small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            classes = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
            titles += [title, ""]
            cells += [small, overlay(small, classes, palette)]
        height = max(map(len, cells))
        row = _join([_pad(cell, height, WIDTH) for cell in cells], axis=1)
        strip = np.concatenate([_header(titles, WIDTH), row])
        strips.append(_pad(strip, len(strip), full_width))
    return _join([*strips, legend(palette, full_width)], axis=0)


def legend(palette: Palette, width: int, others: Palette | None = None, *, is_ignored: bool = True) -> np.ndarray:
    """Draws colour patches with class names, wrapped to a width in pixels, then others, then that of ignored pixels."""
    font = ImageFont.load_default(12)
    entries: list[tuple[str, Sequence[int] | None]] = [*palette.items(), *(others or {}).items()]
    entries += [("ignored", None)] if is_ignored else []
    places, x, y = [], GAP, GAP
    for name, _ in entries:
        length = 20 + int(font.getlength(name)) + 14
        if x + length > width and x > GAP:
            x, y = GAP, y + TITLE
        places.append((x, y))
        x += length
    canvas = Image.new("RGB", (width, y + TITLE), "white")
    draw = ImageDraw.Draw(canvas)
    for (name, colour), (x, y) in zip(entries, places, strict=True):
        if colour is None:
            patch = stripe(np.zeros((13, 15, 3), dtype=np.uint8), np.ones((13, 15), dtype=bool))
            canvas.paste(Image.fromarray(patch), (x, y + 1))
        fill = None if colour is None else tuple(colour)
        draw.rectangle((x, y + 1, x + 14, y + 13), fill=fill, outline="black")
        draw.text((x + 18, y), name, fill="black", font=font)
    return np.asarray(canvas)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Returns the first three channels of an image `(H, W, C)`, to look at."""
    return np.ascontiguousarray(image[..., :3])


def save_png(path: Path, picture: np.ndarray, palette: Palette | None = None, level: int = 6) -> None:
    """Writes a picture, ids `(H, W)` or uint16 `(H, W)`, as PNG, whole or not at all.

    Args:
        palette: colours of ids, which viewers show in place of the ids; the pixels are the same.
        level: of the compression, 0 to 9. 1 takes a fifth of the time of 6, and a tenth more space for photos.
    """
    image = Image.fromarray(picture)
    if palette is not None:
        image.putpalette(colourise(np.arange(256, dtype=np.uint8), palette).tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, compress_level=level)


def _header(titles: Sequence[str], width: int) -> np.ndarray:
    canvas = Image.new("RGB", (len(titles) * (width + GAP) - GAP, TITLE), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(12)
    for column, title in enumerate(titles):
        room = width - 4 if title and "" not in titles else 2 * width - 4  # the title of a pair has the room of both
        while font.getlength(title) > room and len(title) > 4:  # the end of a name says more than its beginning
            title = f"...{title.removeprefix('...')[1:]}"
        draw.text((column * (width + GAP) + 2, 2), title, fill="black", font=font)
    return np.asarray(canvas)


def _pad(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Adds white below and to the right."""
    missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, missing, constant_values=255)


def _join(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    gap = np.full_like(pictures[0].take(range(GAP), axis), 255)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=axis)
