"""Calibration: whether predictions of confidence .9 are right nine times of ten (Guo et al. 2017). Without torch."""

import math
from dataclasses import dataclass

import numpy as np

from src.metrics.figures import ratio


@dataclass(frozen=True)
class CalibrationBin:
    """The labelled pixels whose confidence lies in one of equal parts of 0..1."""

    pixels: int
    confidence: float  # mean, NaN if there is no pixel
    accuracy: float


def calibration_bins(counts: np.ndarray) -> tuple[CalibrationBin, ...]:
    """Returns the bins of `src.metrics.confidence.calibration_counts`, from confidence 0 to 1."""
    pixels, confidence, correct = np.asarray(counts, dtype=np.float64)
    columns = zip(pixels, ratio(confidence, pixels), ratio(correct, pixels), strict=True)
    return tuple(CalibrationBin(int(number), float(mean), float(right)) for number, mean, right in columns)


def expected_calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """Returns the mean gap of accuracy and confidence, weighted by pixels; NaN without pixels."""
    total = sum(each.pixels for each in bins)
    gaps = [each.pixels * abs(each.accuracy - each.confidence) for each in bins if each.pixels]
    return sum(gaps) / total if total else math.nan
