"""The loss of a network: weighted terms on its main logits and on its auxiliary ones."""

from typing import cast

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.losses.banded import Term, score
from src.models.architecture import AlignedLogits


class CombinedLoss(nn.Module):
    """sum_t w_t L_t(main) + aux_weight * sum over auxiliary logits of the same.

    Logits stay at the network's strides. The terms bring them to the mask's size, all `Term`s together in row bands, so
    that no full-size copy is made, and compute in float32 whatever the precision of the network.

    Args:
        terms: by name, `weight` and `loss`, a module `(logits, mask, align_corners) -> scalar`.
        aux_weight: of each auxiliary output (.4 in PSPNet and in all five reports).
        alpha: weight of the first of two terms; the second has 1 - alpha. The terms then have no `weight` (report R2).

    Raises:
        UserError: no term, a negative weight, an alpha outside [0, 1], or one beside weights or other than two terms.
    """

    def __init__(self, terms: dict[str, dict], aux_weight: float = 0.4, alpha: float | None = None) -> None:
        super().__init__()
        weights = _weights(terms, alpha)
        if not any(weight > 0 for weight in weights.values()) or aux_weight < 0:
            raise UserError("loss.terms needs a term of positive weight, and loss.aux_weight must not be negative")
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.terms = nn.ModuleDict({name: terms[name]["loss"] for name in self.weights})
        self.aux_weight = aux_weight

    def forward(self, logits: tuple[Tensor, ...], mask: Tensor, align_corners: bool = False) -> dict[str, Tensor]:
        """Computes `loss`, each term on the main logits by name, and `aux` (unweighted) if there are auxiliary ones.

        Args:
            logits: `(B, K, h, w)` each, main first, at the network's strides.
            mask: `(B, H, W)`, ids 0..K-1 or 255.

        Raises:
            UserError: logits of a network that is aligned with a teacher, which only `AlignedLoss` takes.
        """
        if isinstance(logits, AlignedLogits):
            raise UserError(
                "model.teacher is set, and this loss does not use it; choose loss=ce_siam, or set it to null"
            )
        banded = {name: term for name, term in self.terms.items() if isinstance(term, Term)}
        pixel_weights = {name: term.pixel_weights(mask) for name, term in banded.items()}
        with torch.autocast(mask.device.type, enabled=False):
            scores, totals = [], []
            for output in logits:
                values = score(banded, output, mask, pixel_weights, align_corners)
                others = {n: t(output, mask, align_corners) for n, t in self.terms.items() if n not in banded}
                scores.append({name: (values | others)[name] for name in self.terms})
                totals.append(cast(Tensor, sum(self.weights[name] * value for name, value in scores[-1].items())))
            result = {"loss": totals[0], **scores[0]}
            if len(totals) > 1:
                result["aux"] = torch.stack(totals[1:]).sum()
                result["loss"] = result["loss"] + self.aux_weight * result["aux"]
        return result


def _weights(terms: dict[str, dict], alpha: float | None) -> dict[str, float]:
    """The weight of each term by name."""
    given = {name: term["weight"] for name, term in terms.items() if term.get("weight") is not None}
    if alpha is not None:
        if len(terms) != 2 or given:
            text = ", ".join(f"{name} (weight {terms[name].get('weight')})" for name in terms)
            raise UserError(f"loss.alpha={alpha}: needs two terms without a weight; loss.terms has {text}")
        if not 0 <= alpha <= 1:
            raise UserError(f"loss.alpha={alpha}: must be 0 to 1, the share of {next(iter(terms))}")
        return dict(zip(terms, (alpha, 1 - alpha), strict=True))
    for name in terms:
        if name not in given:
            raise UserError(f"loss.terms.{name}.weight is not set; give it, or loss.alpha if there are two terms")
        if given[name] < 0:
            raise UserError(f"loss.terms.{name}.weight={given[name]}: must not be negative")
    return given
