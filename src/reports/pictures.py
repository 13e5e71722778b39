"""Draws masks as colours, overlays, error maps, panels and contact sheets, all uint8 RGB `(H, W, 3)`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.files import atomic_path

Palette = dict[str, Sequence[int]]  # class name to colour, in the order of the ids
WRONG, IGNORED = (230, 40, 40), (0, 0, 0)
GAP, TITLE = 4, 18
WIDTH = 320  # of each picture in panels and contact sheets, in pixels
SHEET_COLUMNS = 2  # pairs per row


def colourise(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Colours ids `(H, W)`, 0..K-1 or 255, which is black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = list(palette.values())
    return table[ids]


def overlay(image: np.ndarray, ids: np.ndarray, palette: Palette, opacity: float = 0.5) -> np.ndarray:
    """Lays the colours of ids `(H, W)` over an image, with an opacity of 0 to 1."""
    colours = colourise(ids, palette).astype(np.float32)
    return (image * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def error_map(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Draws a dim grey image with wrong pixels red and ignored ones black."""
    grey = image.mean(axis=2, keepdims=True) * 0.4
    result = np.broadcast_to(grey, image.shape).astype(np.uint8).copy()
    result[prediction != truth] = WRONG
    result[truth == 255] = IGNORED
    return result


def panel(
    rows: Sequence[tuple[np.ndarray, ...]], palette: Palette, width: int = WIDTH, titles: Sequence[str] | None = None
) -> np.ndarray:
    """Draws one row per image: the image, its truth, its prediction and the error map; a legend below.

    Args:
        rows: image `(H, W, 3)`, truth ids `(H, W)` and predicted ids `(H, W)` each.
        width: width of each picture in pixels; heights keep the aspect.
        titles: a line above each row, or None.
    """
    strips = [_header(("image", "truth", "prediction", "errors (red), ignored (black)"), width)]
    for index, (image, truth, prediction) in enumerate(rows):
        if titles is not None:
            strips.append(_header([titles[index]], strips[0].shape[1]))
        size = (width, round(width * image.shape[0] / image.shape[1]))
        drawn = (colourise(truth, palette), colourise(prediction, palette), error_map(image, prediction, truth))
        cells = [Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)]
        cells += [Image.fromarray(picture).resize(size, Image.Resampling.NEAREST) for picture in drawn]
        strips.append(_join([np.asarray(cell) for cell in cells], axis=1))
    strips.append(legend(palette, strips[0].shape[1]))
    return _join(strips, axis=0)


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


def legend(palette: Palette, width: int) -> np.ndarray:
    """Draws colour patches with class names, wrapped to a width in pixels."""
    font = ImageFont.load_default(12)
    entries = [*palette.items(), ("ignored", IGNORED)]
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
        draw.rectangle((x, y + 1, x + 14, y + 13), fill=tuple(colour), outline="black")
        draw.text((x + 18, y), name, fill="black", font=font)
    return np.asarray(canvas)


def save_png(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, or ids `(H, W)`, as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary)


def _header(titles: Sequence[str], width: int) -> np.ndarray:
    canvas = Image.new("RGB", (len(titles) * (width + GAP) - GAP, TITLE), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((column * (width + GAP) + 2, 2), title, fill="black", font=ImageFont.load_default(12))
    return np.asarray(canvas)


def _pad(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Adds white below and to the right."""
    missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, missing, constant_values=255)


def _join(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    gap = np.full_like(pictures[0].take(range(GAP), axis), 255)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=axis)
