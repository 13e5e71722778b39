"""The scores of each image of an evaluation: `evaluations/<key>/images.csv`, and the counts behind them."""

import csv
import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.errors import UserError
from src.files import atomic_path, damaged, has_file, write_text
from src.metrics.figures import intersections_and_unions, mean_of_known, ratio

EVALUATIONS, TABLE, COUNTS = "evaluations", "images.csv", "matrices.npz"
PREDICTIONS, WORST = "predictions", "worst"  # folders of PNGs within an evaluation's folder
IOU = "iou/"  # begins the columns of the classes
FACTS = ("image", "group", "height", "width", "labelled", "miou", "pixel_accuracy", "prediction")


@dataclass(frozen=True)
class ImageRow:
    """The scores of one image, as fractions; NaN if there is nothing to divide by."""

    image: str  # `Source.image_id`
    group: str  # of the sample: its drive, sequence or city
    height: int  # at which it was counted, as `width`
    width: int
    labelled: int  # pixels whose truth is a class
    miou: float  # mean over the classes that its truth or its prediction has
    pixel_accuracy: float
    prediction: str  # path of its predicted ids in the evaluation's folder; empty if they were not kept
    iou: dict[str, float]  # NaN for a class that is in neither truth nor prediction


@dataclass(frozen=True, eq=False)
class PerImage:
    """All images of an evaluation, in the order of the split."""

    rows: tuple[ImageRow, ...]
    matrices: np.ndarray  # int64 (N, K, K), rows truth

    def worst(self, number: int) -> list[int]:
        """Returns the indices of the images of lowest mIoU, worst first; those without labels are left out."""
        known = [index for index, row in enumerate(self.rows) if not math.isnan(row.miou)]
        return sorted(known, key=lambda index: self.rows[index].miou)[:number]

    def images_of(self, truth: int, prediction: int, most: int = 10) -> list[tuple[ImageRow, int]]:
        """Returns the images that fill a cell of the confusion matrix, with their pixels, most first."""
        pixels = self.matrices[:, truth, prediction]
        order = np.argsort(-pixels, kind="stable")[:most]
        return [(self.rows[index], int(pixels[index])) for index in order if pixels[index] > 0]


@dataclass(frozen=True)
class ImageFacts:
    """The facts of an image that its matrix does not have."""

    image: str
    group: str
    height: int
    width: int
    prediction: str


def describe_images(facts: Sequence[ImageFacts], matrices: np.ndarray, classes: Sequence[str]) -> PerImage:
    """Derives the scores of N images from their matrices int `(N, K, K)`, rows truth."""
    iou = ratio(*intersections_and_unions(matrices.astype(np.float64)))
    labelled, miou = matrices.sum((1, 2)), mean_of_known(iou)
    accuracy = ratio(np.diagonal(matrices, axis1=1, axis2=2).sum(1), labelled)
    rows = [
        ImageRow(
            each.image, each.group, each.height, each.width, int(labelled[index]), float(miou[index]),
            float(accuracy[index]), each.prediction, dict(zip(classes, map(float, iou[index]), strict=True)),
        )
        for index, each in enumerate(facts)
    ]  # fmt: skip
    return PerImage(tuple(rows), matrices.astype(np.int64))


def write_images(folder: Path, images: PerImage) -> None:
    """Writes the table and the counts into an evaluation's folder; fractions have six decimals, NaN is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FACTS, *(f"{IOU}{name}" for name in images.rows[0].iou)])
    for row in images.rows:
        facts = [getattr(row, name) for name in FACTS]
        writer.writerow([_cell(value) for value in (*facts, *row.iou.values())])
    with atomic_path(folder / COUNTS) as temporary:
        np.savez_compressed(temporary, matrices=images.matrices)
    write_text(folder / TABLE, text.getvalue())


def read_images(folder: Path) -> PerImage | None:
    """Reads the images of an evaluation's folder; None if it has none, like evaluations of an earlier version.

    Raises:
        UserError: a file is damaged.
    """
    table, counts = folder / TABLE, folder / COUNTS
    if not has_file(table):
        return None
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = tuple(map(_row, csv.DictReader(file)))
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(table, f"{type(error).__name__}: {error}") from error
    try:
        with counts.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            matrices = arrays["matrices"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(counts, error) from error
    if matrices.shape != (len(rows), *[len(rows[0].iou) if rows else 0] * 2):
        raise damaged(counts, f"its shape {matrices.shape} is not that of {table.name}")
    return PerImage(rows, matrices)


def find_images(run: Path, key: str) -> PerImage:
    """Reads the images of the evaluation `Evaluation.key` of a run folder.

    Raises:
        UserError: the evaluation has none; says how to get them.
    """
    images = read_images(run / EVALUATIONS / key)
    if images is None:
        raise UserError(
            f"{run / EVALUATIONS / key}: this evaluation has no scores by image, because an earlier version made it; "
            f"repeat it: python -m src.eval run={run}"
        )
    return images


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value


def _row(cells: dict[str, str]) -> ImageRow:
    fraction = {key: float(text) if text else math.nan for key, text in cells.items() if key.startswith(IOU)}
    miou, accuracy = (float(cells[key]) if cells[key] else math.nan for key in ("miou", "pixel_accuracy"))
    height, width, labelled = (int(cells[key]) for key in ("height", "width", "labelled"))
    iou = {key.removeprefix(IOU): value for key, value in fraction.items()}
    return ImageRow(cells["image"], cells["group"], height, width, labelled, miou, accuracy, cells["prediction"], iou)
