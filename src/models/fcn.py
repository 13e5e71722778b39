"""Report R3's baseline: a fully convolutional network from scratch, five strides down and five up."""

from itertools import pairwise

from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.parts.deconv import DeconvDecoder

CHANNELS = (32, 64, 128, 256, 512)


class FCN(Architecture):
    """Five 3x3 convolutions of stride 2, five deconvolutions, no skips; logits at stride 1 (R3; systems.md 2.6).

    It is not the FCN of Long et al. (2015), whose encoder is pretrained and whose shallow maps are added. The biases
    before BatchNorm are R3's, and so is Xavier's initialisation, which `Network` does with `init="xavier"`.

    Args:
        num_classes: K.
    """

    align_corners = False
    divisor = 32

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_strided_conv_bn_relu(*widths) for widths in pairwise((3, *CHANNELS))))
        self.decoder = DeconvDecoder(CHANNELS[-1], num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 32, to `((B, K, H, W),)`."""
        return (self.decoder(self.layers(image)),)


def _strided_conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
