"""Dense CRF: refines the scores of an image by its colours (Kraehenbuehl & Koltun, NeurIPS 2011)."""

import torch
from torch import Tensor

from src.crf.lattice import Lattice
from src.crf.settings import DenseCRF


def refine(scores: Tensor, image: Tensor, crf: DenseCRF) -> Tensor:
    """Infers the marginals of a dense CRF by mean field; returns their logarithms float32 `(B, K, H, W)`.

    The unary energies are the negative logarithms of the network's probabilities. As in the authors' code, kernels are
    normalised symmetrically, D^-1/2 K D^-1/2, and a pixel's message to itself, which the filter contains, stays.

    Args:
        scores: logits, or logarithms of probabilities, `(B, K, H, W)`.
        image: `(B, 3, H, W)` in 0..255.
    """
    with torch.autocast(scores.device.type, enabled=False):
        return torch.stack(
            [_refine(one.float(), picture.float(), crf) for one, picture in zip(scores, image, strict=True)]
        )


def _refine(scores: Tensor, image: Tensor, crf: DenseCRF) -> Tensor:
    classes, height, width = scores.shape
    unary = scores.flatten(1).T.log_softmax(1)  # (H W, K)
    rows, columns = (torch.arange(side, dtype=torch.float32, device=scores.device) for side in (height, width))
    place = torch.cartesian_prod(rows, columns)  # (H W, 2)
    both = torch.cat([place / crf.position, image.flatten(1).T / crf.colour], 1)
    kernels = [
        (weight, _Kernel(features))
        for weight, features in ((crf.weight, both), (crf.smooth_weight, place / crf.smooth_position))
        if weight > 0
    ]
    marginals = unary
    for _ in range(crf.iterations):
        # Potts: what the others have of the same label is in its favour; what they have in all is the same for each.
        messages = sum((weight * kernel(marginals.exp()) for weight, kernel in kernels), torch.zeros_like(unary))
        marginals = (unary + messages).log_softmax(1)
    return marginals.T.reshape(classes, height, width)


class _Kernel:
    """A symmetrically normalised Gaussian kernel."""

    def __init__(self, features: Tensor) -> None:
        self.lattice = Lattice(features)
        self.scale = self.lattice.filter(features.new_ones(len(features), 1)).clamp_min(1e-20).rsqrt()

    def __call__(self, values: Tensor) -> Tensor:
        return self.scale * self.lattice.filter(self.scale * values)
