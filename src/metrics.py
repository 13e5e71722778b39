"""One confusion matrix a split, and every figure derived from it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric


class ConfusionMatrix(Metric):
    """int64 `(K, K)` counts, rows truth and columns prediction, over all pixels of a split, summed across ranks.

    Pixels whose truth is 255 do not count; 255 as a prediction does not occur (argmax over K). This is the accumulation
    of cityscapesScripts' evalPixelLevelSemanticLabeling.
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
    """What a confusion matrix says, each as a fraction; NaN where there is nothing to divide by."""

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: np.ndarray  # (K,), NaN for a class that neither truth nor prediction has
    accuracy: np.ndarray  # (K,), NaN for a class that truth does not have
    share: np.ndarray  # (K,), of the labelled pixels


def figures(matrix: Tensor | np.ndarray) -> Figures:
    """Figures of an int `(K, K)` matrix, rows truth. mIoU is the mean over the classes whose union is not 0."""
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
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
