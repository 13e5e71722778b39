"""Colours and textures of the synthetic streets: noise tiles and tree crowns, made once per process."""

from functools import lru_cache

import cv2
import numpy as np

TILE = 256  # pixels per side of a texture tile
TILE_METRES = 8.0

Colour = tuple[float, ...]  # RGB, 0..255


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """Draws any hue, and saturation and value (0..1) from these ranges."""
    hue, low = rng.uniform(0, 6), 1 - rng.uniform(*saturation)
    peak = 255 * rng.uniform(*value)
    return tuple(peak * (low + (1 - low) * min(1.0, max(0.0, abs((hue - k) % 6 - 3) - 1))) for k in (0, 2, 4))


def smooth_noise(rng: np.random.Generator, octaves: int, finest: int = 1) -> np.ndarray:
    """Sums noise of `octaves` scales, each twice as coarse, to uint8 `(TILE, TILE)` with mean 128."""
    total, middle = np.zeros((TILE, TILE), np.float32), slice(TILE // 2, 3 * TILE // 2)
    for octave in range(octaves):
        cells = TILE // (finest * 2**octave)
        grid = np.tile(rng.standard_normal((cells, cells), np.float32), (2, 2))  # its middle has no seam when repeated
        grid = cv2.resize(grid, (2 * TILE, 2 * TILE), interpolation=cv2.INTER_CUBIC)
        total += 2 ** (octave / 2) * grid[middle, middle]
    return np.clip(128 + 40 * (total - total.mean()) / total.std(), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def tiles() -> dict[str, np.ndarray]:
    """Makes texture tiles `(TILE, TILE)`, uint8, TILE_METRES wide, equal in every process: no seed reaches them."""
    rng = np.random.default_rng(0)
    asphalt = cv2.addWeighted(smooth_noise(rng, 2), 0.6, smooth_noise(rng, 4, 8), 0.4, 0)
    for _ in range(5):  # repairs and cracks
        left, top = rng.integers(0, TILE - 60, 2)
        cv2.rectangle(asphalt, (left, top, *rng.integers(15, 60, 2)), float(rng.uniform(90, 120)), -1)
        crack = np.cumsum(rng.integers(-12, 14, (9, 2)), axis=0) + rng.integers(0, TILE, 2)
        cv2.polylines(asphalt, [crack.astype(np.int32)], False, 70, 1)
    asphalt = cv2.addWeighted(asphalt, 0.75, smooth_noise(rng, 1), 0.25, 0)
    brick = cv2.addWeighted(smooth_noise(rng, 1, 4), 0.5, smooth_noise(rng, 3, 8), 0.5, 0)
    for course, row in enumerate(range(0, TILE, 8)):
        brick[row : row + 2] = 168
        brick[row : row + 8, course % 2 * 8 :: 16] = 160
    return {"asphalt": asphalt, "brick": brick, "stains": smooth_noise(rng, 5, 4), "clouds": smooth_noise(rng, 6, 4)}


@lru_cache(maxsize=1)
def crowns() -> list[np.ndarray]:
    """Draws tree crowns `(192, 192, 2)`, coverage and shade, leaf by leaf, once per process; then they are resized."""
    rng = np.random.default_rng(1)
    drawn = [_crown(rng, conifer=number % 5 == 4) for number in range(10)]
    return drawn + [np.ascontiguousarray(crown[:, ::-1]) for crown in drawn]


def _crown(rng: np.random.Generator, conifer: bool) -> np.ndarray:
    """Scatters leaves in an ellipse or a cone, lighter at the top and on the left."""
    side, leaves = 192, 900
    up = rng.uniform(0, 1, leaves)
    reach = (1 - up) * 0.95 + 0.05 if conifer else np.sqrt(np.clip(1 - (2 * up - 1) ** 2, 0, 1))
    lumps = 1 - 0.22 * rng.uniform(0, 1, 8)[(up * 7.99).astype(int)]  # an uneven outline
    across = rng.uniform(-1, 1, leaves) * reach * lumps
    shade = 90 + 70 * up - 25 * across + rng.normal(0, 26, leaves)
    crown = np.zeros((side, side, 2), np.uint8)
    for index in np.argsort(shade + rng.normal(0, 30, leaves)):  # the bright leaves are the outer ones
        centre = (int(96 + 84 * across[index]), int(side - 10 - 172 * up[index]))
        axes = tuple(int(a) for a in rng.integers(4, 11, 2))
        tone = float(np.clip(shade[index], 0, 255))
        cv2.ellipse(crown, centre, axes, float(rng.uniform(0, 180)), 0, 360, (255, tone), -1)
    return crown
