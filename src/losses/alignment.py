"""Channel-wise distillation (Shu et al. 2021) beside a segmentation loss, for networks with a teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import AlignedLogits
from src.models.parts.layers import resize


class AlignedLoss(nn.Module):
    """The base loss, plus the sum over pairs of w * divergence(student, teacher).

    Args:
        base: `(logits, mask, align_corners) -> dict` of scalars with "loss".
        weights: of each pair by name; SCTNet's are stage3, stage4, decoder, logits. With a weight of 0 the projection
            still has a (zero) gradient, which plain DDP waits for.
        temperature: of the softmax.

    Raises:
        UserError: a negative weight, a temperature that is not positive; in training, logits without pairs, or with
            other pairs than `weights` names.
    """

    def __init__(self, base: nn.Module, weights: dict[str, float], temperature: float = 4.0) -> None:
        super().__init__()
        for name, weight in weights.items():
            if weight < 0:
                raise UserError(f"loss.weights.{name}={weight}: must not be negative")
        if temperature <= 0:
            raise UserError(f"loss.temperature={temperature}: must be above 0")
        self.base = base
        self.weights = dict(weights)
        self.temperature = temperature

    def forward(self, logits: tuple[Tensor, ...], mask: Tensor, align_corners: bool = False) -> dict[str, Tensor]:
        """Computes the scalars of the base loss, `align_NAME` (unweighted) of each pair, and `loss` with all of them.

        Args:
            logits: `AlignedLogits` in training; in validation any logits, to which only the base loss applies.
            mask: `(B, H, W)`, ids 0..K-1 or 255. The pairs are compared everywhere, ignored pixels included.
        """
        result = self.base(tuple(logits), mask, align_corners)
        if not isinstance(logits, AlignedLogits):
            if self.training:
                raise UserError(
                    "this loss aligns a network with its teacher, and the network has none; set model.teacher (only "
                    "SCTNet takes one), or choose another loss"
                )
            return result
        if logits.pairs.keys() != self.weights.keys():
            raise UserError(
                f"loss.weights names {', '.join(self.weights)}; this network compares {', '.join(logits.pairs)}"
            )
        with torch.autocast(mask.device.type, enabled=False):
            terms = {
                name: channel_wise_divergence(student.float(), teacher.float(), self.temperature)
                for name, (student, teacher) in logits.pairs.items()
            }
            total = result["loss"] + sum(self.weights[name] * value for name, value in terms.items())
        return result | {f"align_{name}": value for name, value in terms.items()} | {"loss": total}


def channel_wise_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Averages T^2 KL(teacher || student) over images and channels, each a softmax over positions at temperature T.

    The student `(B, C, h, w)` is resized bilinearly to the size of the teacher `(B, C, H, W)`.
    """
    if student.shape[-2:] != teacher.shape[-2:]:
        student = resize(student, teacher.shape[-2:])
    log_student, log_teacher = ((x / temperature).flatten(2).log_softmax(dim=-1) for x in (student, teacher))
    divergence = F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return divergence * temperature**2 / (teacher.shape[0] * teacher.shape[1])
