"""Report R3's U-Net from scratch (after Ronneberger et al. 2015), with or without two ASPPs in the decoder."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Architecture
from src.models.parts.aspp import ASPPR3
from src.models.parts.layers import resize, with_bn_relu

CHANNELS = (64, 128, 256, 512, 1024)


class UNetPA3(Architecture):
    """A U-Net with BatchNorm, padded convolutions and bilinear upsampling; logits at stride 1 (R3; systems.md 2.6).

    With `aspp` one ASPP replaces the double convolution at stride 2, and another replaces the one at stride 1 with the
    classifier. R3's code does so; its text says "deconv4 layer and final classifier".

    Parameters with 19 classes: 34,528,083; with `aspp` 35,078,987, or 35,079,025 with R3's own last layers. The biases
    before BatchNorm are R3's, and so is Xavier's initialisation, which `Network` does with `init="xavier"`.

    Args:
        aspp: R3's "U-Net + ASPP".
        aspp_final_activation: BatchNorm and ReLU after the classifying ASPP, R3's mistake: no logit is then negative
            (systems.md 4.3 no. 4).
        channels: of the five levels, from stride 1 down; R3's by default.

    Raises:
        UserError: not five numbers of channels; `aspp_final_activation` without `aspp`.
    """

    align_corners = True  # as R3's code does inside; the logits themselves are as large as the image
    divisor = 16

    def __init__(
        self,
        num_classes: int,
        aspp: bool = False,
        aspp_final_activation: bool = False,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        super().__init__()
        if aspp_final_activation and not aspp:
            raise UserError(
                "model.aspp_final_activation=true: there is no ASPP; set model.aspp=true, or leave it false"
            )
        if len(channels) != len(CHANNELS) or not all(type(width) is int and width > 0 for width in channels):
            raise UserError(f"model.channels={list(channels)}: must be five numbers above 0, such as {list(CHANNELS)}")
        self.pool = nn.MaxPool2d(2)
        # R3's first convolution has no BatchNorm.
        first = (nn.Conv2d(3, channels[0], 3, padding=1), nn.ReLU(inplace=True))
        self.down = nn.ModuleList([nn.Sequential(*first, *_conv_bn_relu(channels[0], channels[0]))])
        self.down.extend(_double_conv(*widths) for widths in pairwise(channels))
        widths = channels[-2::-1]  # of the skips, deepest first, and of the maps that are joined with them
        self.halve = nn.ModuleList(_conv_bn_relu(2 * width, width) for width in widths)
        *double, third, fourth = widths
        self.up = nn.ModuleList(_double_conv(2 * width, width) for width in double)
        if aspp:
            self.up.append(ASPPR3(2 * third, third, hidden=third))
            self.up.append(ASPPR3(2 * fourth, num_classes, num_classes, final_activation=aspp_final_activation))
        else:
            self.up.append(_double_conv(2 * third, third))
            self.up.append(nn.Sequential(_double_conv(2 * fourth, fourth), nn.Conv2d(fourth, num_classes, 1)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 16, to `((B, K, H, W),)`."""
        maps = [self.down[0](image)]  # 64 channels at stride 1
        for level in self.down[1:]:
            maps.append(level(self.pool(maps[-1])))  # in the end 1024 channels at stride 16
        x = maps.pop()
        for halve, level in zip(self.halve, self.up, strict=True):
            skip = maps.pop()
            x = level(torch.cat([skip, halve(resize(x, skip.shape[-2:], align_corners=True))], dim=1))
        return (x,)


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return with_bn_relu(nn.Conv2d(in_channels, out_channels, 3, padding=1))


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_bn_relu(in_channels, out_channels), *_conv_bn_relu(out_channels, out_channels))
