"""Every figure that follows from a confusion matrix, of a split or of each image of it. Without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Figures:
    """The figures of a confusion matrix, as fractions; NaN if there is nothing to divide by."""

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: np.ndarray  # (K,), NaN for a class that is in neither truth nor prediction
    accuracy: np.ndarray  # (K,), NaN for a class that is not in truth
    share: np.ndarray  # (K,), of the labelled pixels


def figures(matrix: Any) -> Figures:
    """Computes the figures of an int `(K, K)` matrix, rows truth; mIoU averages the classes with a union above 0."""
    counts = np.asarray(matrix).astype(np.float64)
    truth = counts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = ratio(*intersections_and_unions(counts))
        accuracy = counts.diagonal() / truth
        share = truth / truth.sum()
        pixel_accuracy = counts.diagonal().sum() / truth.sum()
    return Figures(
        miou=float(mean_of_known(iou)),
        pixel_accuracy=float(pixel_accuracy),
        mean_accuracy=float(mean_of_known(accuracy)),
        frequency_weighted_iou=float((share * np.nan_to_num(iou)).sum()),
        iou=iou,
        accuracy=accuracy,
        share=share,
    )


def intersections_and_unions(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns intersection and union `(..., K)` of each class from matrices `(..., K, K)`, rows truth."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return hits, matrices.sum(-1) + matrices.sum(-2) - hits


def dice(matrix: np.ndarray) -> np.ndarray:
    """Returns Dice `(K,)` of a matrix `(K, K)`: 2 |A and B| / (|A| + |B|); NaN for a class in neither."""
    hits, union = intersections_and_unions(np.asarray(matrix, dtype=np.float64))
    return ratio(2 * hits, union + hits)


def category_ious(matrix: np.ndarray, classes: Sequence[str], categories: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Returns the IoU of groups of classes, in which confusion within a group is no error (cityscapesScripts).

    Args:
        matrix: int `(K, K)`, rows truth.
        classes: their K names.
        categories: names of classes by the name of the group; every class is in one group.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    members = np.zeros((len(categories), len(classes)))
    for row, group in enumerate(categories.values()):
        members[row, [classes.index(name) for name in group]] = 1
    return ratio(*intersections_and_unions(members @ counts @ members.T))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; NaN if the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator / denominator)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Averages `(..., K)` over the last axis without its NaN; NaN if there is nothing else."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(-1), known.sum(-1))
