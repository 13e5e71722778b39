"""The confusion matrix of a split, or of each image of it, from predicted and true ids."""

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

    def update(self, matrices: Tensor) -> None:
        """Adds the matrices int64 `(B, K, K)` of images, those of `count_images`."""
        self.counts += matrices.sum(0)

    def compute(self) -> Tensor:
        return self.counts


def count_images(prediction: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts the confusion matrix int64 `(B, K, K)` of each of B images, rows truth.

    Args:
        prediction: integer `(B, ...)` in 0..K-1.
        mask: of the same shape, in 0..K-1 or 255, which does not count.
    """
    rows = num_classes + 1  # the last is of the pixels that do not count: to select the others takes ten times as long
    pairs = mask.clamp(max=num_classes).to(torch.int32).mul_(num_classes).add_(prediction)
    images = torch.arange(len(mask), dtype=torch.int32, device=mask.device).view(-1, *[1] * (mask.ndim - 1))
    pairs += rows * num_classes * images
    counts = torch.bincount(pairs.flatten(), minlength=rows * num_classes * len(mask))
    return counts.view(len(mask), rows, num_classes)[:, :-1]
