"""Soft Dice loss (Milletari et al. 2016), over the classes that are present."""

import torch
from torch import Tensor

from src.errors import UserError
from src.losses.banded import Rows, Term, ratio

PER = ("batch", "image")


class Dice(Term):
    """1 - mean over present classes of (2 I + s) / (P + T + s), sums over the pixels that are not ignored.

    A class without a pixel in the truth does not count: if it did, a perfect prediction of 12 of 19 classes would have
    loss .37 (R2's error). 0 with zero gradient if all pixels are ignored.

    Args:
        smooth: s, in pixels.
        squared: whether P sums squared probabilities, as in Milletari et al. and report R3 (T sums ones either way).
        per: "batch", or "image": the mean over the images that have labels.

    Raises:
        UserError: a negative smooth, or an unknown `per`.
    """

    def __init__(self, smooth: float = 1.0, squared: bool = False, per: str = "batch") -> None:
        super().__init__()
        if smooth < 0:
            raise UserError(f"smooth={smooth}: must not be negative")
        check_per(per)
        self.smooth = smooth
        self.squared = squared
        self.per = per
        self.adds_up = per == "batch"

    def statistics(self, rows: Rows, weights: Tensor | None) -> Tensor:
        """I, P and T of each image and class: `(3, B, K)`."""
        probabilities = rows.probabilities
        labels = torch.arange(probabilities.shape[1], device=rows.mask.device).view(1, -1, 1, 1)
        is_truth = rows.mask.unsqueeze(1) == labels  # (B, K, h, W), bool: an eighth of F.one_hot's bytes
        intersection = torch.where(is_truth, probabilities, 0).sum(dim=(2, 3))
        sizes = probabilities.square() if self.squared else probabilities
        size = (sizes * rows.valid.unsqueeze(1)).sum(dim=(2, 3))
        return torch.stack([intersection, size, is_truth.sum(dim=(2, 3), dtype=size.dtype)])

    def finish(self, statistics: Tensor) -> Tensor:
        sums = statistics.sum(dim=1, keepdim=True) if self.per == "batch" else statistics
        intersection, size, truth = sums  # (B or 1, K)
        present = (truth > 0).to(truth.dtype)
        losses = 1 - ratio(2 * intersection + self.smooth, size + truth + self.smooth)
        return mean_of_present(losses, present)


def check_per(per: str) -> None:
    """Raises UserError if `per` is neither "batch" nor "image"."""
    if per not in PER:
        raise UserError(f"per={per}: must be one of {', '.join(PER)}")


def mean_of_present(losses: Tensor, present: Tensor) -> Tensor:
    """Averages over classes, then over images; both arguments are `(images, K)`, only what has pixels counts."""
    counts = present.sum(dim=1)
    images = ratio((losses * present).sum(dim=1), counts)
    return ratio(images.sum(), (counts > 0).sum())
