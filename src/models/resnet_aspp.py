"""A ResNet with one or two ASPPs as classifiers (report R3, its best network)."""

from collections.abc import Sequence

from torch import Tensor

from src.errors import UserError
from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.aspp import ASPPR3


class ResNetASPP(Architecture):
    """R3's dual form: an encoder dilated to stride 8, an ASPP on layer3 and one on layer4, their logits summed.

    Args:
        backbone: ResNet-50 in R3 (its text says ResNet-101 once).
        output_stride: of the encoder and of the logits; 8 in the dual form, 32 in R3's simple one.
        dual: False for only the ASPP on layer4.
        hidden: channels of their branches (R3's table says 128, its code for ResNets 256).
        final_activation: BatchNorm and ReLU on the logits, R3's mistake: no logit is then negative.

    Raises:
        UserError: a backbone that cannot be dilated, or a dual form whose maps have two strides.
    """

    align_corners = True  # as in R3's code

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        output_stride: int = 8,
        dual: bool = True,
        rates: Sequence[int] = (6, 12, 18),
        hidden: int = 256,
        final_activation: bool = False,
    ) -> None:
        if dual and output_stride != 8:
            raise UserError(
                f"model.output_stride={output_stride}: the sum of both ASPPs needs layer3 and layer4 at one stride; "
                "set 8, or model.dual=false"
            )
        super().__init__(build_encoder(backbone, output_stride))
        *_, middle, deep = self.encoder.out_channels
        self.head = ASPPR3(deep, num_classes, hidden, rates, final_activation)
        self.middle_head = ASPPR3(middle, num_classes, hidden, rates, final_activation) if dual else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `((B, K, H / s, W / s),)`, sides rounded up, s the output stride."""
        *_, middle, deep = self.encoder(image)
        if self.middle_head is None:
            return (self.head(deep),)
        return (self.head(deep) + self.middle_head(middle),)
