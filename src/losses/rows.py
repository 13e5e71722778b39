"""Some rows of a batch, and what loss terms want to know of them."""

from functools import cached_property

from torch import Tensor

IGNORED = 255  # label that does not count


class Rows:
    """Some rows of a batch, all columns, and what terms want to know of them, computed once for all terms.

    Args:
        logits: float32 or float64 `(B, K, h, W)`.
        mask: int64 `(B, h, W)`, ids 0..K-1 or 255.
    """

    def __init__(self, logits: Tensor, mask: Tensor) -> None:
        self.logits = logits
        self.mask = mask

    @cached_property
    def valid(self) -> Tensor:
        """Bool `(B, h, W)`: not ignored."""
        return self.mask != IGNORED

    @cached_property
    def target(self) -> Tensor:
        """Int64 `(B, h, W)` in 0..K-1, 0 where ignored."""
        return self.mask.where(self.valid, 0)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """`(B, K, h, W)`."""
        return self.logits.log_softmax(dim=1)

    @cached_property
    def probabilities(self) -> Tensor:
        """`(B, K, h, W)`."""
        return self.log_probabilities.exp()

    @cached_property
    def log_truth(self) -> Tensor:
        """Log-probability of the true class, `(B, h, W)`; of class 0 where ignored."""
        return self.log_probabilities.gather(1, self.target.unsqueeze(1)).squeeze(1)
