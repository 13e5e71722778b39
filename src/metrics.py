"""One confusion matrix per split, and every figure derived from it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric


class ConfusionMatrix(Metric):
    """Counts the pixels of a split: int64 `(K, K)`, rows truth and columns prediction, summed across ranks.

    Pixels whose truth is 255 do not count; no prediction is 255 (argmax over K). This is the accumulation of
    cityscapesScripts' evalPixelLevelSemanticLabeling.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Adds integer `(B, H, W)` predictions in 0..K-1 against masks in 0..K-1 or 255."""
        valid = mask < self.num_classes
        pairs = self.num_classes * mask[valid].to(torch.int32) + prediction[valid].to(torch.int32)
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts += counts.view(self.num_classes, self.num_classes)

    def compute(self) -> Tensor:
        return self.counts


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


def figures(matrix: Tensor | np.ndarray) -> Figures:
    """Computes the figures of an int `(K, K)` matrix, rows truth; mIoU averages the classes with a union above 0."""
    counts = np.asarray(matrix).astype(np.float64)
    hits = counts.diagonal()
    truth, predicted = counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hits / (truth + predicted - hits)
        accuracy = hits / truth
        share = truth / truth.sum()
        pixel_accuracy = hits.sum() / truth.sum()
    return Figures(
        miou=_mean(iou),
        pixel_accuracy=float(pixel_accuracy),
        mean_accuracy=_mean(accuracy),
        frequency_weighted_iou=float((share * np.nan_to_num(iou)).sum()),
        iou=iou,
        accuracy=accuracy,
        share=share,
    )


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
