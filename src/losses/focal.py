"""Focal loss (Lin et al. 2017), for exclusive classes: on the softmax's probability of the true class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.errors import UserError
from src.losses.rows import Rows
from src.losses.term import PixelMean


class Focal(PixelMean):
    """Mean of -w_y (1 - p_y)^gamma log p_y over the pixels that are not ignored, divided by the mean of their w_y.

    With gamma 0 it is the cross-entropy. No alpha: of one class among many it is what class weights are. Not smp's
    FocalLoss, which sums a sigmoid for every class and means over them (with two classes, its binary mode is this).

    Args:
        gamma: how much less a pixel counts that is already right; 2 in the paper and in report R0.
        class_weights: K non-negative weights, or None for equal ones.

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
        # Above 0, where a power below 1 has no gradient; expm1 keeps the digits of 1 - p near there.
        rest = (-truth.expm1()).clamp_min(torch.finfo(truth.dtype).tiny)
        loss = -truth * rest**self.gamma
        return loss if self.class_weights is None else loss * self.weight_of_truth(rows)
