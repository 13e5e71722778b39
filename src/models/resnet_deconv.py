"""Report R3's ResNet with deconvolutions: a pretrained encoder with the decoder of its baseline."""

from torch import Tensor

from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.fcn import DeconvDecoder


class ResNetDeconv(Architecture):
    """An encoder of stride 32, the five deconvolutions of `FCN`, no skips; logits at stride 1 (R3, systems.md 2.6).

    R3's backbone is resnet50 with ImageNet weights.
    """

    def __init__(self, backbone: dict, num_classes: int) -> None:
        super().__init__(build_encoder(backbone))
        self.divisor = 32
        self.decoder = DeconvDecoder(self.encoder.out_channels[-1], num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 32, to `((B, K, H, W),)`."""
        return (self.decoder(self.encoder(image)[-1]),)
