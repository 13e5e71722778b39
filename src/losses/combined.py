"""The loss of a network: weighted terms on its main logits, and on its auxiliary ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.geometry import upsample


class CombinedLoss(nn.Module):
    """sum_t w_t L_t(main) + aux_weight * sum over auxiliary logits of the same.

    It alone brings logits and mask to one size, and computes in float32 whatever the precision of the network.

    Args:
        terms: by name, `weight` and `loss`, a module `(logits, mask) -> scalar`.
        aux_weight: of each auxiliary output (.4 in PSPNet and in all five reports).

    Raises:
        ValueError: no term, or a negative weight.
    """

    def __init__(self, terms: dict[str, dict], aux_weight: float = 0.4) -> None:
        super().__init__()
        for name, term in terms.items():
            if term["weight"] < 0:
                raise ValueError(f"loss.terms.{name}.weight={term['weight']}: must not be negative")
        if not any(term["weight"] > 0 for term in terms.values()) or aux_weight < 0:
            raise ValueError("loss.terms needs a term of positive weight, and loss.aux_weight must not be negative")
        self.weights = {name: term["weight"] for name, term in terms.items() if term["weight"] > 0}
        self.terms = nn.ModuleDict({name: terms[name]["loss"] for name in self.weights})
        self.aux_weight = aux_weight

    def forward(self, logits: Sequence[Tensor], mask: Tensor, align_corners: bool = False) -> dict[str, Tensor]:
        """Scalars: `loss`, each term on the main logits by name, and `aux` (unweighted) where there are others.

        Args:
            logits: `(B, K, h, w)` each, main first, at the network's strides.
            mask: `(B, H, W)`, ids 0..K-1 or 255.
            align_corners: how the network wants its logits brought up.

        Raises:
            ValueError: outputs of a network that is aligned with a teacher (`AlignedLoss` takes those).
        """
        if hasattr(logits, "pairs"):
            raise ValueError(
                "model.teacher is set, and this loss does not use it; choose loss=ce_siam, or set it to null"
            )
        mask = mask.long()
        with torch.autocast(mask.device.type, enabled=False):
            scores = [self._terms(output, mask, align_corners) for output in logits]
            totals = [sum(self.weights[name] * value for name, value in terms.items()) for terms in scores]
            result = {"loss": totals[0], **scores[0]}
            if len(totals) > 1:
                result["aux"] = torch.stack(totals[1:]).sum()
                result["loss"] = result["loss"] + self.aux_weight * result["aux"]
        return result

    def _terms(self, logits: Tensor, mask: Tensor, align_corners: bool) -> dict[str, Tensor]:
        # Contiguous: sums over pixels of one class are several times slower where the classes of a pixel lie together.
        full = upsample(logits.float(), tuple(mask.shape[-2:]), align_corners).contiguous()
        return {name: term(full, mask) for name, term in self.terms.items()}
