"""Suspected label errors: large connected areas where a network is sure and the label says otherwise.

After Rottmann and Reese, "Automated Detection of Label Errors in Semantic Segmentation Datasets via Deep Learning and
Uncertainty Quantification" (arXiv 2207.06104), with the mean probability of an area in place of their meta-classifier.
An area is a suspicion: a network may be sure and wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from src.labels import IGNORE_INDEX

SURE = round(0.9 * 255)  # confidence of a pixel in 255ths
LEAST_SHARE = 2e-4  # of an image's pixels: 420 of 1024x2048
THICKNESS = 3  # pixels from the middle of an area to its edge: contours of objects are drawn less exactly than that


@dataclass(frozen=True)
class Suspect:
    """An area of an image whose label may be wrong."""

    place: int  # of the image in its split
    top: int
    left: int
    height: int
    width: int
    truth: int  # the commonest label in it
    predicted: int
    pixels: int
    confidence: float  # mean over the area

    @property
    def weight(self) -> float:
        """The order of suspects: large and sure areas first."""
        return self.pixels * self.confidence


def find_suspects(place: int, truth: np.ndarray, ids: np.ndarray, confidence: np.ndarray) -> list[Suspect]:
    """Finds the areas of an image, each of one predicted class, 8-connected.

    Args:
        truth: ids uint8 `(H, W)`, 0..K-1 or 255.
        ids: predicted ids uint8 `(H, W)`.
        confidence: probability of the predicted class, uint8 `(H, W)` in 255ths.
    """
    differs = (truth != ids) & (truth != IGNORE_INDEX) & (confidence >= SURE)
    least = max(1, LEAST_SHARE * truth.size)
    found = []
    for label in np.flatnonzero(np.bincount(ids[differs], minlength=1) >= least):
        area = (differs & (ids == label)).astype(np.uint8)
        count, components, stats, _ = cv2.connectedComponentsWithStats(area, connectivity=8)
        for number in range(1, count):
            left, top, width, height, pixels = (int(value) for value in stats[number])
            if pixels < least:
                continue
            box = np.s_[top : top + height, left : left + width]
            inside = components[box] == number
            depth = cv2.distanceTransform(np.pad(inside.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            if depth.max() < THICKNESS:
                continue
            commonest = int(np.bincount(truth[box][inside]).argmax())
            mean = float(confidence[box][inside].mean() / 255)
            found.append(Suspect(place, top, left, height, width, commonest, int(label), pixels, mean))
    return found


def keep_largest(suspects: Iterable[Suspect], number: int) -> list[Suspect]:
    """Returns the suspects of greatest weight, greatest first."""
    return sorted(suspects, key=lambda each: (-each.weight, each.place, each.top, each.left))[:number]
