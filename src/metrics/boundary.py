"""Boundary IoU (Cheng et al. 2021) and boundary F (Csurka et al. 2013; Perazzi et al. 2016) of ids, by class."""

from dataclasses import dataclass

import cv2
import numpy as np

from src.labels import IGNORE_INDEX
from src.metrics.figures import ratio


@dataclass(eq=False)
class BoundaryCounts:
    """Counts of a split at one width: int64 `(K,)` each. Images add up, as for IoU."""

    width: int
    num_classes: int

    def __post_init__(self) -> None:
        self.counts = np.zeros((7, self.num_classes), dtype=np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image: ids uint8 `(H, W)`, the truth 0..K-1 or 255. Ignored pixels count in neither."""
        prediction = np.where(truth == IGNORE_INDEX, IGNORE_INDEX, prediction).astype(np.uint8)
        bands = [band(ids, self.width) for ids in (truth, prediction)]
        both = bands[0] & bands[1] & (truth == prediction)
        self.counts[:3] += [
            self._count(truth, both), self._count(truth, bands[0]), self._count(prediction, bands[1])
        ]  # fmt: skip
        self.counts[3:] += np.stack(contour_matches(truth, prediction, self.width, self.num_classes))

    def iou(self) -> np.ndarray:
        """Returns boundary IoU `(K,)`: of the pixels of a class that are no further than `width` from its contour."""
        both, truth, predicted = self.counts[:3]
        return ratio(both, truth + predicted - both)

    def f(self) -> np.ndarray:
        """Returns boundary F `(K,)`: of precision and recall of contours that may be off by `width`.

        0 if only one of the two has the class, NaN if neither has a contour of it.
        """
        found, truth, right, predicted = self.counts[3:]
        recall, precision = ratio(found, truth), ratio(right, predicted)
        score = ratio(2 * precision * recall, precision + recall)
        return np.where(truth + predicted > 0, np.nan_to_num(score), np.nan)

    def _count(self, ids: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.bincount(ids[where & (ids != IGNORE_INDEX)], minlength=self.num_classes)


def band(ids: np.ndarray, width: int) -> np.ndarray:
    """Returns bool `(H, W)`: whether a pixel is within `width` of one of another class, or of the image's edge.

    Distances are those of the official code, which erodes a mask `width` times by 3x3 pixels: the larger of the two
    along the axes. Where an ignored area begins there is no contour: nobody drew one.
    """
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    ignored, shifted = ids == IGNORE_INDEX, ids + np.uint8(1)  # 255 becomes 0, which is no class here
    highest = cv2.dilate(shifted, kernel)
    lowest = cv2.erode(np.where(ignored, IGNORE_INDEX, ids), kernel) + np.uint8(1)
    near = (highest != shifted) | (lowest != shifted)
    near[:width], near[-width:], near[:, :width], near[:, -width:] = True, True, True, True
    return near & ~ignored


def contour_matches(
    truth: np.ndarray, prediction: np.ndarray, width: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts contour pixels by class, int64 `(K,)` each.

    Returns:
        Those of the truth near a predicted one, all of the truth, those of the prediction near a true one, and all of
        the prediction.

    A contour pixel has another class above, below, left or right. Distances are Euclidean.
    """
    y, x = np.mgrid[-width : width + 1, -width : width + 1]
    disk = (x * x + y * y <= width * width).astype(np.uint8)
    edges = [_contour(ids) for ids in (truth, prediction)]
    counts = np.zeros((4, num_classes), dtype=np.int64)
    for label in np.union1d(np.unique(truth), np.unique(prediction)):
        if label == IGNORE_INDEX:
            continue
        one, other = (
            (edge & (ids == label)).astype(np.uint8) for edge, ids in zip(edges, (truth, prediction), strict=True)
        )
        found, right = (a & cv2.dilate(b, disk, borderValue=0) for a, b in ((one, other), (other, one)))
        counts[:, label] = [part.sum(dtype=np.int64) for part in (found, one, right, other)]
    return counts[0], counts[1], counts[2], counts[3]


def _contour(ids: np.ndarray) -> np.ndarray:
    """Returns bool `(H, W)`: whether one of the four neighbours has another class, not counting ignored ones."""
    result = np.zeros(ids.shape, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = (ids[one] != ids[other]) & (ids[one] != IGNORE_INDEX) & (ids[other] != IGNORE_INDEX)
        result[one] |= differs
        result[other] |= differs
    return result
