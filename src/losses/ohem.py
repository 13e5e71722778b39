"""Cross-entropy of only the hard pixels: online hard example mining (Shrivastava et al. 2016), as PSA and HRNet do."""

import math

import torch
from torch import Tensor

from src.errors import UserError, whole
from src.losses.banded import Rows, Term, ratio


class OHEM(Term):
    """The mean cross-entropy over the pixels whose true class has a probability below `threshold`, at least `min_kept`.

    If fewer are below it, the `min_kept` least probable ones count (and those that equal the last of them), or all if
    fewer pixels are labelled. Pixels are counted over the batch of a device. HRNet's `OhemCrossEntropy` and PSA's (in
    semseg) keep the same pixels: those below max(threshold, the probability of rank min_kept). They differ from this if
    probabilities tie, or if no more pixels than min_kept are labelled (HRNet then drops one).

    Args:
        threshold: probability in (0, 1); .7 in the public code.
        min_kept: pixels; 100,000 in the public code, for crops of 512x1024 and batches of 2 to 3 per device.

    Raises:
        UserError: a threshold outside (0, 1), or a min_kept below 1.
    """

    by_pixel = True
    adds_up = False

    def __init__(self, threshold: float = 0.7, min_kept: int = 100_000) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise UserError(f"threshold={threshold}: must be a probability above 0 and below 1")
        self.limit = -math.log(threshold)
        self.min_kept = whole("min_kept", min_kept, 1)

    def statistics(self, rows: Rows, weights: Tensor | None) -> Tensor:
        """Cross-entropy of each pixel, -1 at ignored ones: `(B, h, W)`."""
        return torch.where(rows.valid, -rows.log_truth, -1)

    def finish(self, statistics: Tensor) -> Tensor:
        with torch.no_grad():
            flat = statistics.flatten()
            hardest = flat.topk(min(self.min_kept, len(flat)), sorted=False).values
            is_hard = (statistics > self.limit) | (statistics >= hardest.min())
            is_kept = is_hard & (statistics >= 0)
        return ratio((statistics * is_kept).sum(), is_kept.sum())
