"""The figures of KITTI's road benchmark (Fritsch et al. 2013): MaxF, AP, precision, recall; its bird's-eye view."""

from dataclasses import dataclass

import numpy as np

TINY = 1e-10  # of the dev-kit, which adds it to denominators
PERSPECTIVE, BIRDS_EYE = "perspective", "bird's-eye"  # views
# The bird's-eye view of the dev-kit and of the server: metres to the right of the camera, metres ahead, and of a cell.
RIGHT, AHEAD, CELL = (-10, 10), (6, 46), 0.05


@dataclass(frozen=True)
class RoadFigures:
    """The figures of KITTI's road benchmark; the server's are of the bird's-eye view."""

    view: str  # `PERSPECTIVE` or `BIRDS_EYE`
    max_f: float
    average_precision: float
    precision: float  # this and the rest at the threshold of MaxF
    recall: float
    false_positive_rate: float
    false_negative_rate: float
    threshold: float


def road_figures(counts: np.ndarray, view: str) -> RoadFigures | None:
    """Computes the figures as the dev-kit's `pxEval_maximizeFMeasure`; None if the truth has only one of the classes.

    Args:
        counts: int `(2, T + 1)` of `src.metrics.confidence.threshold_counts`, summed over the split.
    """
    positive, negative = np.asarray(counts, dtype=np.float64)
    if not positive.sum() or not negative.sum():
        return None
    missed = np.cumsum(positive)[:-1]  # those that do not reach threshold t: they reach at most t of them
    false = negative.sum() - np.cumsum(negative)[:-1]
    found = positive.sum() - missed
    recall, precision = found / positive.sum(), found / (found + false + TINY)
    f = 2 * precision * recall / (precision + recall + TINY)
    best = int(f.argmax())
    # Pascal VOC's average precision of 2007, over the recalls of eleven steps that are reached.
    reached = [precision[recall >= step].max() for step in np.arange(0, 1.1, 0.1) if (recall >= step).any()]
    return RoadFigures(
        view,
        max_f=float(f[best]),
        average_precision=float(np.mean(reached)),
        precision=float(precision[best]),
        recall=float(recall[best]),
        false_positive_rate=float(false[best] / negative.sum()),
        false_negative_rate=float(missed[best] / positive.sum()),
        threshold=best / (len(f) - 1),
    )


def birds_eye_pixels(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Finds the pixel of each cell of the bird's-eye view, as the dev-kit's `computeBEVLookUpTable`.

    Args:
        plane: float `(3, 3)`, from (metres to the right, metres ahead, 1) on the road to the homogeneous (column, row)
            in the image, counted from 1.
        size: height and width of the image.

    Returns:
        int64 `(2, N)`: row and column, from 0, of each of the 800x400 cells whose centre lies in the image.
    """
    centres = [np.arange(low + CELL / 2, high, CELL).astype(np.float32) for low, high in (RIGHT, AHEAD)]
    right, ahead = (axis.ravel() for axis in np.meshgrid(*centres))
    column, row, depth = plane @ np.stack([right, ahead, np.ones_like(right)])
    places = np.stack([row, column]) / depth
    inside = (places >= 1).all(0) & (places[0] <= size[0]) & (places[1] <= size[1])
    return places[:, inside].astype(np.int64) - 1
