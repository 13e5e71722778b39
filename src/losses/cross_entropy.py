"""Cross-entropy with label smoothing and class weights (Szegedy et al. 2016), as `F.cross_entropy` defines both."""

from collections.abc import Sequence

from torch import Tensor

from src.errors import UserError
from src.losses.banded import PixelMean, Rows


class CrossEntropy(PixelMean):
    """The mean over the pixels not ignored, weighted by class.

    Args:
        label_smoothing: epsilon in [0, 1): the target is (1 - epsilon) one-hot + epsilon / K.
        class_weights: as `PixelMean`.

    Raises:
        UserError: epsilon outside [0, 1), a negative weight, or not K weights.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(class_weights)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.label_smoothing = label_smoothing

    def pixel_loss(self, rows: Rows) -> Tensor:
        truth, others = rows.log_truth, rows.log_probabilities
        if self.class_weights is not None:
            truth = truth * self.weight_of_truth(rows)
        if not self.label_smoothing:
            return -truth
        if self.class_weights is not None:
            others = others * self.weights_of_classes(rows).view(1, -1, 1, 1)
        share = self.label_smoothing / others.shape[1]
        return (self.label_smoothing - 1) * truth - share * others.sum(dim=1)
