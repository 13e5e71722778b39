"""Masks whose labels are colours: RGB to ids."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from src.data.reading import open_mask
from src.data.source import Colour
from src.errors import DataError

COMMON = 8  # colours outside the table that an error names: a mask that was resized has thousands
UNKNOWN = 254  # an id that no class has


def read_colours(path: Path, table: dict[Colour, int]) -> np.ndarray:
    """Reads ids uint8 `(H, W)`, 0..K-1 or 255, from an RGB or palette PNG, through a table of its colours.

    Raises:
        DataError: the file cannot be read, or has colours outside the table; `counts` are the most frequent of them.
    """
    mask = open_mask(path)
    return ids_of_colours(path, np.asarray(mask.convert("RGB")), table)


def ids_of_colours(path: Path, image: np.ndarray, table: dict[Colour, int]) -> np.ndarray:
    """Maps the colours uint8 `(H, W, 3)` of a file to ids. DataError names the most frequent outside the table."""
    padded = np.zeros((*image.shape[:2], 4), dtype=np.uint8)
    padded[..., :3] = image
    codes = padded.view("<u4")[..., 0]
    marks = _marks(tuple(table.items()))[codes]
    if not marks.all():
        wrong, counts = np.unique(codes[marks == 0], return_counts=True)
        common = sorted(zip(counts.tolist(), wrong.tolist(), strict=True), reverse=True)[:COMMON]
        pixels = {str(_colour(code)): count for count, code in common}
        found = ", ".join(f"{colour} ({count} px)" for colour, count in pixels.items())
        more = f" and {len(wrong) - COMMON} more" if len(wrong) > COMMON else ""
        text = (
            f"colour {found}{more} is not one of the {len(table)} of this label set; mend the mask (resizing and JPEG "
            "blend labels)"
        )
        raise DataError(path, "colour", text, pixels)
    return marks ^ UNKNOWN


@lru_cache(maxsize=4)
def _marks(table: tuple[tuple[Colour, int], ...]) -> np.ndarray:
    """Builds uint8 `(2^24,)`: `id ^ UNKNOWN` of each colour code, so that colours outside the table are 0.

    Zeros that are never written take no memory.
    """
    marks = np.zeros(2**24, dtype=np.uint8)
    for (red, green, blue), label in table:
        marks[red + 256 * green + 65536 * blue] = label ^ UNKNOWN
    return marks


def _colour(code: int) -> Colour:
    return code & 255, code >> 8 & 255, code >> 16


def voc_colour(number: int) -> Colour:
    """The colour of a number in Pascal VOC's palette: its bits go in turn to R, G and B, to the highest bits first."""
    channels = [0, 0, 0]
    for step in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * step + channel) & 1) << (7 - step)
    return channels[0], channels[1], channels[2]
