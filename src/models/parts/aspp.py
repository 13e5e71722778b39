"""Atrous spatial pyramid pooling: that of DeepLab, and the variant of report R3."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.parts.layers import conv_bn_relu, needs_two_images, separable_conv_bn_relu

# The paper's rates at stride 16; at half the stride, twice the rates give the same field of view.
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


def default_rates(output_stride: int) -> tuple[int, int, int]:
    """Returns the atrous rates for an output stride; raises UserError if it is neither 8 nor 16."""
    if output_stride not in RATES:
        raise UserError(f"model.output_stride={output_stride}: must be one of {', '.join(map(str, RATES))}")
    return RATES[output_stride]


class ASPP(nn.Module):
    """1x1, three atrous 3x3 and image pooling, all with BatchNorm and ReLU, projected (Chen et al. 2017, section 3.3).

    Args:
        channels: of each branch and of the output.
        separable: whether the 3x3 convolutions are depthwise separable (Chen et al. 2018).
        dropout: after the projection.
        norm_between: BatchNorm and ReLU within the separable convolutions, see `separable_conv_bn_relu`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        separable: bool = False,
        dropout: float = 0.5,
        norm_between: bool = True,
    ) -> None:
        super().__init__()
        atrous = partial(separable_conv_bn_relu, norm_between=norm_between) if separable else conv_bn_relu
        self.branches = nn.ModuleList([conv_bn_relu(in_channels, channels, kernel_size=1)])
        self.branches.extend(atrous(in_channels, channels, dilation=rate) for rate in rates)
        self.pooled = conv_bn_relu(in_channels, channels, kernel_size=1)
        self.project = nn.Sequential(
            *conv_bn_relu((len(rates) + 2) * channels, channels, kernel_size=1), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B, channels, h, w)`."""
        needs_two_images(x, self, "ASPP's image pooling")
        pooled = self.pooled(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class ASPPR3(nn.Module):
    """R3's ASPP, whose 1x1 branch is a plain convolution; it serves as a decoder level or as the classifier.

    Args:
        hidden: channels of each of the five branches.
        final_activation: BatchNorm and ReLU after the projection. R3 has them in the classifier too, where they make
            every logit non-negative; leave them out there (systems.md 4.3).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        rates: Sequence[int] = (6, 12, 18),
        final_activation: bool = True,
    ) -> None:
        super().__init__()
        self.point = nn.Conv2d(in_channels, hidden, kernel_size=1)
        self.atrous = nn.ModuleList(conv_bn_relu(in_channels, hidden, dilation=rate) for rate in rates)
        self.pooled = conv_bn_relu(in_channels, hidden, kernel_size=1)
        self.project = nn.Sequential(nn.Conv2d((len(rates) + 2) * hidden, out_channels, kernel_size=1))
        if final_activation:
            self.project.extend([nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)])

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B, out_channels, h, w)`."""
        needs_two_images(x, self, "ASPP's image pooling")
        pooled = self.pooled(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.project(torch.cat([self.point(x), *(conv(x) for conv in self.atrous), pooled], dim=1))
