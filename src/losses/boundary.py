"""Cross-entropy that weighs pixels near a label boundary more, in the form of U-Net's weight map."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import UserError
from src.labels import IGNORE_INDEX
from src.losses.cross_entropy import CrossEntropy


class BoundaryCrossEntropy(CrossEntropy):
    """Cross-entropy whose pixels weigh 1 + w exp(-d^2 / 2 sigma^2), divided by the sum of the weights.

    d is the distance in pixels, up to 3 sigma, to the nearest boundary pixel: one with another class among its eight
    neighbours. 255 is no class, so an ignored area makes no boundary. U-Net (Ronneberger et al. 2015) has the same form
    with the distances to the two nearest cells, w 10 and sigma 5.

    Args:
        boundary_weight: w.
        sigma: in pixels of the mask.
        label_smoothing: as `CrossEntropy`; `class_weights` too.

    Raises:
        UserError: a negative w, a sigma that is not positive, and as `CrossEntropy`.
    """

    def __init__(
        self,
        boundary_weight: float = 4.0,
        sigma: float = 2.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(label_smoothing, class_weights)
        if boundary_weight < 0:
            raise UserError(f"boundary_weight={boundary_weight}: must not be negative")
        if sigma <= 0:
            raise UserError(f"sigma={sigma}: must be above 0 pixels")
        self.boundary_weight = boundary_weight
        self.sigma = sigma

    @torch.no_grad()
    def pixel_weights(self, mask: Tensor) -> Tensor:
        """`(B, H, W)`, 1 to 1 + w."""
        near = boundary(mask).float()
        # The largest Gaussian of all boundary pixels is that of the nearest; along rows, then along columns.
        for dim in (2, 1):
            near = _spread(near, dim, self.sigma)
        return near.mul_(self.boundary_weight).add_(1)


def boundary(mask: Tensor) -> Tensor:
    """Finds the pixels with another class among their eight neighbours, bool `(B, H, W)`; 255 counts as none."""
    ids = mask.float().unsqueeze(1)
    is_ignored = ids == IGNORE_INDEX
    highest = F.max_pool2d(ids.masked_fill(is_ignored, -math.inf), 3, stride=1, padding=1)
    lowest = -F.max_pool2d((-ids).masked_fill(is_ignored, -math.inf), 3, stride=1, padding=1)
    return ((highest != lowest) & ~is_ignored).squeeze(1)


def _spread(values: Tensor, dim: int, sigma: float) -> Tensor:
    """Takes the maximum over shifts by d along a dimension of values * exp(-d^2 / 2 sigma^2), |d| up to 3 sigma."""
    result = values.clone()
    length = values.shape[dim]
    for distance in range(1, min(math.ceil(3 * sigma), length - 1) + 1):
        faded = values * math.exp(-(distance**2) / (2 * sigma**2))
        for start, other in ((distance, 0), (0, distance)):
            target = result.narrow(dim, start, length - distance)
            torch.maximum(target, faded.narrow(dim, other, length - distance), out=target)
    return result
