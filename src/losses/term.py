"""What a loss term is: statistics that are made row band by row band, and a scalar that is made of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.losses.bands import score
from src.losses.rows import Rows


class Term(nn.Module, ABC):
    """A loss whose `statistics` can be made of some rows at a time, so that the rest need not be in memory.

    `by_pixel`: statistics are a map `(B, h, W)`, whose bands are joined; else a tensor of sums, which are added up.
    """

    by_pixel = False

    def pixel_weights(self, mask: Tensor) -> Tensor | None:
        """Weights `(B, H, W)` that follow from the labels `(B, H, W)` alone; None: all alike."""
        return None

    @abstractmethod
    def statistics(self, rows: Rows, weights: Tensor | None) -> Tensor:
        """What `finish` needs of these rows and their `pixel_weights`, a tensor with a gradient to `rows.logits`."""

    @abstractmethod
    def finish(self, statistics: Tensor) -> Tensor:
        """The scalar, from the `statistics` of all rows; by ordinary autograd."""

    def forward(self, logits: Tensor, mask: Tensor, align_corners: bool = False) -> Tensor:
        """Logits `(B, K, h, w)` at any stride and mask `(B, H, W)`, ids 0..K-1 or 255, to a scalar."""
        return score({"": self}, logits, mask, {"": self.pixel_weights(mask)}, align_corners)[""]


class PixelMean(Term):
    """Weighted mean of a loss a pixel over those not ignored; 0 with zero gradient where all are.

    Args:
        class_weights: K non-negative weights, or None for equal ones.

    Raises:
        UserError: a negative weight, the name of a weighting in place of weights, or not K of them.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if isinstance(class_weights, str):
            raise UserError(
                f"class_weights={class_weights}: want numbers; src.config.open.complete puts them for a name"
            )
        if class_weights is not None and min(class_weights) < 0:
            raise UserError(f"class_weights={list(class_weights)}: none may be negative")
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    @abstractmethod
    def pixel_loss(self, rows: Rows) -> Tensor:
        """`(B, h, W)`, times the weight of the class; any finite value where ignored."""

    def statistics(self, rows: Rows, weights: Tensor | None) -> Tensor:
        counts = rows.valid.to(rows.logits.dtype)
        if weights is not None:
            counts = counts * weights
        total = (self.pixel_loss(rows) * counts).sum()
        if self.class_weights is not None:
            counts = counts * self.weight_of_truth(rows)
        return torch.stack([total, counts.sum()])

    def finish(self, statistics: Tensor) -> Tensor:
        total, weight = statistics
        return ratio(total, weight)

    def weights_of_classes(self, rows: Rows) -> Tensor:
        """`(K,)`, checked; only where there are any."""
        num_classes = rows.logits.shape[1]
        if len(self.class_weights) != num_classes:
            raise UserError(f"class_weights has {len(self.class_weights)} values for {num_classes} classes")
        return self.class_weights.to(rows.logits.dtype)

    def weight_of_truth(self, rows: Rows) -> Tensor:
        """`(B, h, W)`; only where there are weights of classes."""
        return self.weights_of_classes(rows)[rows.target]


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and 0 with zero gradient where the count is 0 (and the total with it)."""
    # Not clamp_min(tiny): its gradient of 1e38 becomes infinite, then NaN, under the loss scaling of float16.
    return total / torch.where(count > 0, count, 1)
