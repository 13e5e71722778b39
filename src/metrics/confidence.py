"""Counts of probabilities by confidence and by threshold, on the device of the scores."""

import torch
from torch import Tensor

BINS = 15  # of calibration (Guo et al. 2017)
THRESHOLDS = 256  # of KITTI's road benchmark: 0/255, 1/255, ..., 1


def calibration_counts(confidence: Tensor, correct: Tensor, counted: Tensor) -> Tensor:
    """Counts labelled pixels by the confidence of their prediction.

    Args:
        confidence: float `(...)`, the probability of the predicted class.
        correct: bool, of the same shape.
        counted: bool, of the same shape: the labelled pixels.

    Returns:
        float64 `(3, BINS)`: pixels, sum of confidences, correct pixels of each bin (i / BINS, (i + 1) / BINS].
    """
    place = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1).masked_fill_(~counted, BINS).flatten()
    kind = torch.float32 if confidence.device.type == "mps" else torch.float64
    weights = (None, confidence.to(kind).flatten(), correct.to(kind).flatten())
    counts = [torch.bincount(place, weight, minlength=BINS + 1)[:BINS].to(kind) for weight in weights]
    return torch.stack(counts).cpu().double()


def threshold_counts(probability: Tensor, positive: Tensor) -> Tensor:
    """Counts labelled pixels by the number of thresholds that their probability reaches.

    Args:
        probability: float `(N,)` of the class that is detected.
        positive: bool `(N,)`, whether the truth is this class.

    Returns:
        int64 `(2, THRESHOLDS + 1)`: of positive and of other pixels, those that reach 0, 1, ... of the thresholds.
    """
    thresholds = (torch.arange(THRESHOLDS, dtype=torch.float64) / (THRESHOLDS - 1)).to(probability)
    reached = torch.bucketize(probability, thresholds, right=True)
    sides = (reached[positive], reached[~positive])
    return torch.stack([torch.bincount(side, minlength=THRESHOLDS + 1) for side in sides]).cpu()
