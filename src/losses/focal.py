"""Focal loss (Lin et al. 2017), for exclusive classes: on the softmax's probability of the true class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.errors import UserError
from src.losses.banded import PixelMean, Rows


class Focal(PixelMean):
    """The mean of -w_y (1 - p_y)^gamma log p_y over the pixels not ignored, divided by the mean of their w_y.

    With gamma 0 it is the cross-entropy. It has no alpha: with many classes, class weights take its place. It is not
    smp's FocalLoss, which averages a sigmoid loss over the classes (with two classes, the binary mode of that is this).

    Args:
        gamma: the larger, the less a pixel counts that is already right; 2 in the paper and in report R0.
        class_weights: as `PixelMean`.

    Raises:
        UserError: a negative gamma or weight, or not K weights.
    """

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(class_weights)
        if gamma < 0:
            raise UserError(f"gamma={gamma}: must not be negative")
        self.gamma = gamma

    def pixel_loss(self, rows: Rows) -> Tensor:
        truth = rows.log_truth
        # Above 0, where a power below 1 has no gradient; expm1 keeps the digits of 1 - p near 0.
        rest = (-truth.expm1()).clamp_min(torch.finfo(truth.dtype).tiny)
        loss = -truth * rest**self.gamma
        return loss if self.class_weights is None else loss * self.weight_of_truth(rows)
