"""The images that are to be segmented: found and named before torch is imported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from src.data.reading import IMAGE_SUFFIXES, read_image
from src.data.source import Sample, Source
from src.errors import UserError

Images = dict[str, Callable[[], np.ndarray]]  # by the name of its output: reads an image, RGB uint8 (H, W, 3)


def read_sample(source: Source, sample: Sample) -> np.ndarray:
    """Reads RGB uint8 `(H, W, 3)` without the labels, which the test split of a benchmark does not have."""
    return read_image(sample.image) if sample.image else source.read(sample)[0]


def find_images(path: Path) -> list[Path]:
    """Returns the file itself, or the images of a folder in order.

    Raises:
        UserError: no such file or folder, no image in it, or two images whose outputs would share a name.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"input={path}: no such file or folder")
    images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UserError(f"input={path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
    stems = [file.stem for file in images]
    if repeated := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"input={path}: several images are called {repeated[0]}; their outputs would be one file")
    return images


def check_output(path: Path) -> Path:
    """Returns the folder for the outputs. Raises UserError if there is something in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists and is not empty, and nothing is overwritten; give another output=FOLDER")
    return path
