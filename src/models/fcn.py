"""Report R3's baseline: a fully convolutional network from scratch, five strides down and five up."""

from itertools import pairwise

from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.parts.layers import with_bn_relu

CHANNELS = (32, 64, 128, 256, 512)


class FCN(Architecture):
    """Five 3x3 convolutions of stride 2, five deconvolutions, no skips; logits at stride 1 (R3; systems.md 2.6).

    It is not the FCN of Long et al. (2015), whose encoder is pretrained and whose shallow maps are added. The biases
    before BatchNorm are R3's, and so is Xavier's initialisation, which `Network` does with `init="xavier"`.
    """

    divisor = 32

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        strided = (nn.Conv2d(*widths, 3, stride=2, padding=1) for widths in pairwise((3, *CHANNELS)))
        self.layers = nn.Sequential(*map(with_bn_relu, strided))
        self.decoder = DeconvDecoder(CHANNELS[-1], num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 32, to `((B, K, H, W),)`."""
        return (self.decoder(self.layers(image)),)


class DeconvDecoder(nn.Module):
    """Five 3x3 deconvolutions of stride 2, each with BatchNorm and ReLU, and a 1x1 classifier (systems.md 2.6)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        widths = pairwise((in_channels, *reversed(CHANNELS)))
        deconvs = (nn.ConvTranspose2d(*pair, 3, stride=2, padding=1, output_padding=1) for pair in widths)
        self.layers = nn.Sequential(*map(with_bn_relu, deconvs))
        self.head = nn.Conv2d(CHANNELS[0], num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` at stride 32 to logits `(B, K, 32 h, 32 w)`."""
        return self.head(self.layers(x))
