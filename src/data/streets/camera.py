"""Turns the finished canvas of a synthetic street into a photo and an annotation."""

from functools import lru_cache

import cv2
import numpy as np

from src.data.streets.canvas import POLE, SIGN, SUPERSAMPLING, Scene
from src.data.streets.textures import TILE, tiles
from src.labels import IGNORE_INDEX


def develop(scene: Scene) -> np.ndarray:
    """Returns a camera's picture of the canvas: downsampling, lens blur, vignetting, exposure, white balance, noise."""
    rng = scene.rng
    height, width = scene.height // SUPERSAMPLING, scene.width // SUPERSAMPLING
    image = cv2.resize(scene.canvas, (width, height), interpolation=cv2.INTER_AREA)[..., :3].astype(np.float32)
    sharpness = rng.uniform(0.15, 0.6) * height / 128
    image = cv2.GaussianBlur(image, (0, 0), sharpness)
    gain = np.float32(rng.uniform(0.9, 1.25) * (1 + rng.normal(0, 0.025, 3)))
    image *= gain * (1 - np.float32(rng.uniform(0.05, 0.3)) * radius(height, width))
    image += np.float32(rng.uniform(1, 4.5)) * rng.standard_normal((height, width, 1), np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def radius(height: int, width: int) -> np.ndarray:
    """Returns the squared distance from the image centre, 1 in the corners, float32 `(H, W, 1)`."""
    y, x = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
    return ((x**2 + y**2) / 2).astype(np.float32)


def annotate(scene: Scene) -> np.ndarray:
    """Returns the mask, with a band of void along part of the boundaries, as hand-drawn labels have."""
    mask = np.ascontiguousarray(scene.canvas[::SUPERSAMPLING, ::SUPERSAMPLING, 3])
    band = max(2, round(mask.shape[0] / 128) + 1)
    kernel = np.ones((band, band), np.uint8)
    boundary = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    boundary &= (mask != POLE) & (mask != SIGN)  # too thin to lose any
    places = np.flatnonzero(boundary)
    noise = np.roll(tiles()["stains"], tuple(scene.rng.integers(0, TILE, 2)), (0, 1))
    noise = cv2.resize(noise, mask.shape[::-1], interpolation=cv2.INTER_LINEAR).ravel()[places]
    wanted = min(len(places), int(mask.size * scene.rng.uniform(0.022, 0.04)))
    mask.ravel()[places[np.argsort(noise, kind="stable")[:wanted]]] = IGNORE_INDEX
    return mask
