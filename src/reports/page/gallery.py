"""Pictures of a report: the worst images of each set of evaluated images, with the predictions of all its runs."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from src.errors import UserError
from src.files import damaged
from src.machine import num_cores
from src.runs.per_image import EVALUATIONS, PREDICTIONS, WORST, PerImage, read_images
from src.runs.records import Evaluation

T = TypeVar("T")
MOST_PREDICTIONS = 600  # of a set of images: the page stays small, whatever the number of runs
FEWEST = 4  # images of a set, whatever the number of runs
MOST_CELLS = 400  # of a confusion matrix that name their images: those with most of their truth's pixels
NUM_WORST = 10  # images that an evaluation keeps with their truth
PER_CELL = 3  # images named by a cell


@dataclass(frozen=True)
class Measured:
    """An evaluation and its records per image."""

    row: int  # index in the table of runs
    evaluation: Evaluation
    folder: Path  # of the records
    images: PerImage


@dataclass(frozen=True)
class Shot:
    """An image with its truth and its predictions, each as the text of a data URI."""

    name: str
    size: tuple[int, int]  # (H, W) of the truth, in which all are drawn
    image: str  # RGB
    truth: str  # ids in grey, 255 for ignored
    predictions: dict[int, str]  # ids in grey, by row of the table of runs
    scores: dict[int, float]  # mIoU of the image, by row; NaN if nothing of it is labelled


@dataclass(frozen=True)
class Gallery:
    """Images that several evaluations share."""

    group: str  # `group_of` their evaluations
    shots: tuple[Shot, ...]  # the worst by the mean over the rows first
    # By row and (truth, prediction): names of the images that have most pixels of it, and how many they have.
    cells: dict[int, dict[tuple[int, int], list[tuple[str, int]]]]


def group_of(evaluation: Evaluation) -> str:
    """Names the images and labels of an evaluation: figures of one group can be compared."""
    return f"{counted(evaluation)} {evaluation.protocol.data}"


def counted(evaluation: Evaluation) -> str:
    """Describes what an evaluation counted: of the same images a protocol may count the middle, or another size."""
    protocol = evaluation.protocol
    pixels = sum(map(sum, evaluation.matrix))
    return f"{protocol.labels} {protocol.split} ({protocol.images}), {pixels:,} pixels"


def read_galleries(
    rows: Iterable[tuple[int, Path, Evaluation]], num_images: int, width: int, left_out: list[str]
) -> tuple[Gallery, ...]:
    """Reads the pictures that evaluations have kept.

    Args:
        rows: index in the table of runs, run folder and evaluation.
        num_images: most images of a gallery; fewer if there are many runs.
        width: of the pictures in pixels, at most.
        left_out: is added to, a line for each damaged record or picture.
    """
    groups: dict[str, list[Measured]] = {}
    for row, path, evaluation in rows:
        folder = path / EVALUATIONS / evaluation.key
        if (images := _noted(left_out, read_images, folder)) is not None:
            groups.setdefault(group_of(evaluation), []).append(Measured(row, evaluation, folder, images))
    return tuple(_read_gallery(group, found, num_images, width, left_out) for group, found in groups.items())


def _noted(left_out: list[str], read: Callable[..., T], *arguments: Any) -> T | None:
    """Reads what a report can do without; adds a line and returns None if it is damaged."""
    try:
        return read(*arguments)
    except UserError as error:
        left_out.append(str(error))
        return None


def _read_gallery(
    group: str, measured: Sequence[Measured], num_images: int, width: int, left_out: list[str]
) -> Gallery:
    kept: dict[str, list[Path]] = {}  # the files of an image and its truth, of the first evaluation that has them
    for each in measured:
        for number, index in enumerate(each.images.worst(NUM_WORST), start=1):
            files = [each.folder / WORST / f"{number:02d}_{name}" for name in ("image.jpg", "truth.png")]
            if all(file.is_file() for file in files):
                kept.setdefault(each.images.rows[index].image, files)
    scores: dict[str, dict[int, float]] = {name: {} for name in kept}
    for each in measured:
        for row in each.images.rows:
            if row.image in scores:
                scores[row.image][each.row] = row.miou
    means = {name: float(np.mean(list(found.values()))) for name, found in scores.items()}  # the worst are not NaN
    most = min(num_images, max(FEWEST, MOST_PREDICTIONS // len(measured)))
    names = sorted(kept, key=lambda name: (means[name], name))[:most]
    with ThreadPoolExecutor(num_cores()) as pool:
        found = pool.map(
            lambda name: _noted(left_out, _read_shot, name, kept[name], measured, scores[name], width), names
        )
    shots = tuple(shot for shot in found if shot is not None)
    return Gallery(group, shots, {each.row: _fill(each.images) for each in measured})


def _read_shot(
    name: str, files: Sequence[Path], measured: Sequence[Measured], scores: dict[int, float], width: int
) -> Shot:
    image, truth = files
    try:
        with Image.open(truth) as opened:
            size = _fitting(opened.size, width)
    except OSError as error:
        raise damaged(truth, error) from error
    predictions = {}
    for each in measured:
        row = next((row for row in each.images.rows if row.image == name), None)
        if row is not None and _is_kept(row.prediction) and (path := each.folder / row.prediction).is_file():
            predictions[each.row] = _data_uri(path, size, "L")
    return Shot(
        name, (size[1], size[0]), _data_uri(image, size, "RGB"), _data_uri(truth, size, "L"), predictions, scores
    )


def _is_kept(prediction: str) -> bool:
    """Returns whether a record names a prediction within its own folder; run folders may come from anybody."""
    parts = Path(prediction).parts
    return parts[:1] == (PREDICTIONS,) and ".." not in parts


def _fill(images: PerImage) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Finds the images that fill each of the most important cells of a confusion matrix."""
    total = images.matrices.sum(0)
    shares = total / np.maximum(total.sum(1, keepdims=True), 1)
    order = np.argsort(-shares, axis=None, kind="stable")[:MOST_CELLS]
    cells = [tuple(map(int, np.unravel_index(place, shares.shape))) for place in order if shares.flat[place] > 0]
    return {
        (truth, prediction): [(row.image, pixels) for row, pixels in images.images_of(truth, prediction, PER_CELL)]
        for truth, prediction in cells
    }


def _fitting(size: tuple[int, int], width: int) -> tuple[int, int]:
    """Returns a size `(W, H)` of the same aspect that is at most `width` wide."""
    return size if size[0] <= width else (width, max(1, round(size[1] * width / size[0])))


def _data_uri(path: Path, size: tuple[int, int], mode: str) -> str:
    """Reads a picture as a data URI: the file as it is if it fits, else resized to `(W, H)`."""
    kind, options = ("jpeg", {"quality": 85}) if mode == "RGB" else ("png", {})
    how = Image.Resampling.BILINEAR if mode == "RGB" else Image.Resampling.NEAREST
    try:
        with Image.open(path) as picture:
            if picture.size == size and picture.mode == mode and picture.format == kind.upper():
                content = path.read_bytes()
            else:
                # Of a picture with a palette the array has the ids.
                plain = picture.convert("RGB") if mode == "RGB" else Image.fromarray(np.asarray(picture, np.uint8))
                file = io.BytesIO()
                plain.resize(size, how).save(file, kind, **options)
                content = file.getvalue()
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise damaged(path, error) from error
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
