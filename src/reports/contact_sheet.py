"""Draws samples of a dataset on one picture: images, the same with their classes over them, and a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.reports.pictures import GAP, TITLE, Palette, legend, overlay

WIDTH = 320  # of each picture, in pixels
COLUMNS = 2  # pairs per row


def contact_sheet(pairs: Sequence[tuple[str, np.ndarray, np.ndarray]], palette: Palette) -> np.ndarray:
    """Draws each pair as its image and its overlay; returns RGB uint8 `(height, width, 3)`.

    Args:
        pairs: (title, image uint8 `(H, W, 3)`, ids uint8 `(H, W)`), of any sizes.
    """
    rows = [pairs[start : start + COLUMNS] for start in range(0, len(pairs), COLUMNS)]
    heights = [max(_height(image) for _, image, _ in row) + TITLE for row in rows]
    width = 2 * COLUMNS * (WIDTH + GAP) - GAP
    colours = legend(palette, width)
    canvas = Image.new("RGB", (width, sum(heights) + GAP * len(rows) + len(colours)), "white")
    draw, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(12), 0
    for row, height in zip(rows, heights, strict=True):
        for column, (title, image, ids) in enumerate(row):
            left, size = 2 * column * (WIDTH + GAP), (WIDTH, _height(image))
            draw.text((left + 2, top + 2), title, fill="black", font=font)
            small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
            classes = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
            canvas.paste(small, (left, top + TITLE))
            laid = Image.fromarray(overlay(np.asarray(small), classes, palette))
            canvas.paste(laid, (left + WIDTH + GAP, top + TITLE))
        top += height + GAP
    canvas.paste(Image.fromarray(colours), (0, top))
    return np.asarray(canvas)


def _height(image: np.ndarray) -> int:
    return max(1, round(WIDTH * image.shape[0] / image.shape[1]))
