"""The decoder that report R3's FCN and ResNet share: five deconvolutions back to the size of the image."""

from itertools import pairwise

from torch import Tensor, nn

CHANNELS = (512, 256, 128, 64, 32)


class DeconvDecoder(nn.Module):
    """Five 3x3 deconvolutions of stride 2, each with BatchNorm and ReLU, and a 1x1 classifier (systems.md 2.6).

    Args:
        in_channels: of the map at stride 32.
        num_classes: K.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_deconv_bn_relu(*widths) for widths in pairwise((in_channels, *CHANNELS))))
        self.head = nn.Conv2d(CHANNELS[-1], num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to logits `(B, K, 32 h, 32 w)`."""
        return self.head(self.layers(x))


def _deconv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
