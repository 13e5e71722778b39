"""Masks whose labels are colours: RGB to ids."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from src.data.reading import read_image
from src.errors import UserError

Colour = tuple[int, int, int]
UNKNOWN = 254  # an id that no class has


def read_colours(path: Path, table: dict[Colour, int]) -> np.ndarray:
    """Ids uint8 `(H, W)`, 0..K-1 or 255, of an RGB or palette PNG, through a table of its colours.

    Raises:
        UserError: the file cannot be read, or has colours outside the table: names them, with their pixels.
    """
    image = read_image(path)
    padded = np.zeros((*image.shape[:2], 4), dtype=np.uint8)
    padded[..., :3] = image
    codes = padded.view("<u4")[..., 0]
    marks = _marks(tuple(table.items()))[codes]
    if not marks.all():
        wrong, counts = np.unique(codes[marks == 0], return_counts=True)
        common = sorted(zip(counts.tolist(), wrong.tolist(), strict=True), reverse=True)
        found = ", ".join(f"{_colour(code)} ({count} px)" for count, code in common[:8])
        more = f" and {len(common) - 8} more" if len(common) > 8 else ""
        raise UserError(
            f"{path}: colour {found}{more} is not one of the {len(table)} of this label set; mend the mask (labels "
            "are blended where it was resized or saved as JPEG)"
        )
    return marks ^ UNKNOWN


@lru_cache(maxsize=4)
def _marks(table: tuple[tuple[Colour, int], ...]) -> np.ndarray:
    """uint8 `(2^24,)`: for each colour code `id ^ UNKNOWN`, so that colours that no id has are 0.

    Zeros that are never written take no memory.
    """
    marks = np.zeros(2**24, dtype=np.uint8)
    for (red, green, blue), label in table:
        marks[red + 256 * green + 65536 * blue] = label ^ UNKNOWN
    return marks


def _colour(code: int) -> Colour:
    return code & 255, code >> 8 & 255, code >> 16
