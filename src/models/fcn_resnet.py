"""An FCN on a dilated encoder (Long et al. 2015, as torchvision and mmsegmentation train it; report R4)."""

from torch import Tensor

from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.layers import FCNHead


class FCNResNet(Architecture):
    """A dilated encoder, one 3x3 convolution, a classifier; an auxiliary head of the same form on the stage before.

    With ResNet-50 or ResNet-101 at stride 8 it is torchvision's `fcn_resnet50` or `fcn_resnet101` (a test proves it).

    Args:
        output_stride: of the encoder and of the logits, 8, 16 or 32.
        dropout: before each classifier.

    Raises:
        UserError: a backbone that cannot be dilated to the output stride.
    """

    def __init__(
        self, backbone: dict, num_classes: int, output_stride: int = 8, dropout: float = 0.1, aux: bool = True
    ) -> None:
        super().__init__(build_encoder(backbone, output_stride))
        *_, middle, deep = self.encoder.out_channels
        self.head = FCNHead(deep, deep // 4, num_classes, dropout)
        self.aux_head = FCNHead(middle, middle // 4, num_classes, dropout) if aux else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, H / s, W / s)` each, sides rounded up, s the output stride."""
        *_, middle, deep = self.encoder(image)
        return self.with_aux(self.head(deep), middle)
