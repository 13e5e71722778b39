"""How sure a figure is: bootstrap intervals over images, and a paired test of two runs on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from src.metrics.figures import intersections_and_unions, mean_of_known, ratio

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Bounds:
    """The bounds of the interval of mIoU `(2,)`, and of each class's IoU `(2, K)`: low, high."""

    miou: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True)
class Paired:
    """The difference of the mIoU of two runs, first minus second, on the same images."""

    difference: float
    low: float  # of the 95 % bootstrap interval over images
    high: float
    p: float  # of the permutation test, two-sided: how often chance gives a difference at least as large


def bootstrap(
    matrices: np.ndarray, groups: Sequence[str] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Bounds:
    """Computes 95 % bootstrap intervals: a split of N images is drawn anew from its images.

    The figures of each draw come from its summed counts, as those of the split. A class that a draw lacks does not
    count in its mean. The percentiles are Hesterberg's (2015) expanded ones, further out by Student's t and
    sqrt(N / (N - 1)): plain ones are too narrow if there are few images.

    Args:
        matrices: int `(N, K, K)`, rows truth, one per image.
        groups: N names, such as drives, that are drawn as a whole: images of one are alike, and intervals that take
            them for independent are too narrow. None: each image by itself.
    """
    hits, unions = _parts(matrices, groups)
    iou, miou = _resampled(hits, unions, _draws(len(hits), resamples, seed))
    return Bounds(_percentiles(miou, len(hits)), _percentiles(iou, len(hits)))


def paired(first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Paired:
    """Compares the mIoU of two runs on the same N images, of which each has matrices int `(N, K, K)`, rows truth.

    The interval is of the difference on images drawn anew, the same for both. In the permutation test (Fisher 1935)
    each image's counts change sides by chance; p counts the observed order as one, so that it is never 0.
    """
    assert len(first) == len(second), "the same images"
    draws, parts = _draws(len(first), resamples, seed), (_parts(first, None), _parts(second, None))
    gaps = np.subtract(*(_resampled(*part, draws)[1] for part in parts))
    observed = float(np.subtract(*(_resampled(*part, np.ones((1, len(first))))[1][0] for part in parts)))
    kept = np.random.default_rng(seed).integers(0, 2, (resamples, len(first))).astype(np.float64)
    sides = []
    for own, other in (parts, parts[::-1]):
        hits, unions = (kept @ a + (1 - kept) @ b for a, b in zip(own, other, strict=True))
        sides.append(mean_of_known(ratio(hits, unions)))
    as_large = np.abs(sides[0] - sides[1]) >= abs(observed) - 1e-12
    p = (1 + int(as_large.sum())) / (1 + resamples)
    low, high = _percentiles(gaps, len(first))
    return Paired(observed, float(low), float(high), p)


def _parts(matrices: np.ndarray, groups: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns intersections and unions float64 `(N, K)`, or of whole groups."""
    parts = [part.astype(np.float64) for part in intersections_and_unions(matrices)]
    if groups:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        member = (index == np.arange(index.max() + 1)[:, None]).astype(np.float64)
        parts = [member @ part for part in parts]
    return parts[0], parts[1]


@lru_cache(maxsize=4)
def _draws(number: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each of some images is in each resample: float64 `(resamples, number)`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(number, np.full(number, 1 / number), size=resamples).astype(np.float64)


def _resampled(hits: np.ndarray, unions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns IoU `(R, K)` and mIoU `(R,)` of resamples."""
    iou = ratio(draws @ hits, draws @ unions)
    return iou, mean_of_known(iou)


def _percentiles(values: np.ndarray, number: int) -> np.ndarray:
    """Returns the bounds `(2, ...)` of values `(R, ...)` by resamples of so many images; NaN for a single image."""
    columns = values.reshape(len(values), -1)
    bounds = np.full((2, columns.shape[1]), np.nan)
    if number > 1:
        from scipy import special  # takes a moment, for which `--help` must not wait

        tail = special.ndtr(special.stdtrit(number - 1, (1 - LEVEL) / 2) * np.sqrt(number / (number - 1)))
        for index, column in enumerate(columns.T):
            if (known := column[~np.isnan(column)]).size:
                bounds[:, index] = np.quantile(known, [tail, 1 - tail])
    return bounds.reshape(2, *values.shape[1:])
