"""The images that are to be segmented: found, named and measured before torch is imported."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.data.listing import foreign_fault, is_image, list_folders, list_images, walk
from src.data.reading import IMAGE_SUFFIXES, read_image, read_size
from src.data.source import Sample, Source
from src.errors import DataError, UserError, shortened

Images = dict[str, Callable[[], np.ndarray]]  # by the name of its output: reads an image, RGB uint8 (H, W, 3)
SCALE_MARGIN = 1.5  # a network copes with objects larger or smaller by this factor: the random scale of its training


@dataclass(frozen=True)
class Found:
    """Image files by the names of their outputs, and a line for each kind of file that was left out."""

    files: dict[str, Path]
    left_out: tuple[str, ...] = ()


def read_sample(source: Source, sample: Sample) -> np.ndarray:
    """Reads RGB uint8 `(H, W, 3)` without the labels, which the test split of a benchmark does not have."""
    return read_image(sample.image, source.form) if sample.image else source.read(sample)[0]


def find_images(path: Path, *, recursive: bool = False) -> Found:
    """Returns the file itself, or the images of a folder in order, without hidden ones (`._photo.jpg` of macOS).

    Args:
        recursive: whether images in sub-folders are found too; their outputs lie in folders of the same names.

    Raises:
        UserError: no such file or folder, no image in it, or two images whose outputs would share a name.
    """
    if path.is_file():
        if not is_image(path):
            known = ", ".join(IMAGE_SUFFIXES)
            raise foreign_fault(path) or UserError(f"input={path}: no image by its suffix; give one of {known}")
        return Found({path.with_suffix(".png").name: path})
    if not path.is_dir():
        raise UserError(f"input={path}: no such file or folder")
    files = list(walk(path)) if recursive else [*list_images(path), *_others(path)]
    images = [file for file in files if is_image(file) and file.is_file()]
    others = [file.relative_to(path).as_posix() for file in files if not (is_image(file) and file.is_file())]
    folders = [] if recursive else [folder.name for folder in list_folders(path)]
    left_out = []
    if others:
        suffixes = ", ".join(IMAGE_SUFFIXES)
        remedy = next((f"; {name} {fault.text}" for name in others if (fault := foreign_fault(Path(name)))), "")
        names = shortened(others)
        left_out.append(f"input={path}: left out {len(others)} files that are none of {suffixes}: {names}{remedy}")
    if folders:
        left_out.append(
            f"input={path}: left out {len(folders)} sub-folders ({shortened(folders)}); recursive=true reads them too"
        )
    if not images:
        reasons = "".join(f"; {line.partition(': ')[2]}" for line in left_out)
        raise UserError(f"input={path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)}){reasons}")
    names = [file.relative_to(path).with_suffix(".png").as_posix() for file in images]
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        stem = Path(repeated[0]).with_suffix("")
        raise UserError(f"input={path}: several images are called {stem}; their outputs would be one file")
    return Found(dict(zip(names, images, strict=True)), tuple(left_out))


def _others(folder: Path) -> list[Path]:
    """Returns the files of a folder that are neither images nor hidden, sorted."""
    files = (file for file in folder.iterdir() if not file.is_dir() and not file.name.startswith("."))
    return sorted(file for file in files if not is_image(file))


def trained_short_side(size: Sequence[int], resize: Sequence[int] | Mapping[str, int] | None) -> int:
    """Returns the length of the shorter side at which training saw whole images, before its random scale.

    Args:
        size: height and width of the training images.
        resize: as of `src.data.augment.crop.Geometry`.
    """
    if resize is None:
        return min(size)
    if not isinstance(resize, Mapping):
        return min(resize)
    return resize["short"] if "short" in resize else round(resize["long"] * min(size) / max(size))


def note_scale(files: Sequence[Path], trained: int, shown: int | None) -> list[str]:
    """Describes the scale of the training, and the images that the network would see at another one.

    Args:
        trained: shorter side of the training's images, in pixels.
        shown: shorter side that each image is resized to; None for its own.
    """
    sides = {}
    for file in files:
        try:
            sides[file] = shown or min(read_size(file))
        except DataError:
            continue  # reported when it is decoded
    lines = [f"the network was trained on images with a short side of {trained} pixels"]
    other = [file for file, side in sides.items() if not 1 / SCALE_MARGIN <= side / trained <= SCALE_MARGIN]
    if other:
        lines.append(
            f"{len(other)} of {len(files)} images reach it at another scale (first: {other[0].name}, short side "
            f"{sides[other[0]]}), so that their classes may be wrong: inference.short_side={trained} resizes them"
        )
    return lines


def check_output(path: Path) -> Path:
    """Returns the folder for the outputs. Raises UserError if there is something in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists and is not empty, and nothing is overwritten; give another output=FOLDER")
    return path
