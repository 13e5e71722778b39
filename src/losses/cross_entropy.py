"""Cross-entropy with label smoothing and class weights (Szegedy et al. 2016), as `F.cross_entropy` defines both."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossEntropy(nn.Module):
    """Mean over the pixels that are not ignored, weighted by class; 0 with zero gradient where all are ignored.

    Args:
        label_smoothing: epsilon in [0, 1): the target is (1 - epsilon) one-hot + epsilon / K.
        class_weights: K non-negative weights, or None for equal ones.
        ignore_index: label that does not count.

    Raises:
        ValueError: epsilon outside [0, 1), a negative weight, or not K weights.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: list[float] | None = None, ignore_index: int = 255
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        if class_weights is not None and min(class_weights) < 0:
            raise ValueError(f"class_weights={class_weights}: none may be negative")
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits float32 `(B, K, H, W)` and mask int64 `(B, H, W)` to a scalar >= 0."""
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise ValueError(f"class_weights has {len(self.class_weights)} values for {logits.shape[1]} classes")
        total = F.cross_entropy(
            logits, mask, self.class_weights, ignore_index=self.ignore_index, reduction="sum",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        valid = mask != self.ignore_index
        if self.class_weights is None:
            weight = valid.sum(dtype=torch.float32)
        else:
            weight = (self.class_weights[mask.where(valid, 0)] * valid).sum()
        # Not F.cross_entropy's own mean, which is 0 / 0 where every pixel is ignored.
        return total / weight.clamp_min(torch.finfo(torch.float32).tiny)
