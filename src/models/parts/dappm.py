"""The deep aggregation pyramid pooling module (Pan et al. 2022, DDRNet) in SCTNet's form."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.parts.layers import needs_two_images


def bn_relu_conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> tuple[nn.Module, ...]:
    """BatchNorm, ReLU and a convolution with bias that keeps the size."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    return nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), convolution


class DAPPM(nn.Module):
    """Five scales of context, each joined with the one before it: y_0 = s_0(x), y_i = p_i(up(s_i(x)) + y_(i-1)).

    s_0 sees the map itself, s_1 to s_3 its averages over 5, 9 and 17 cells at strides 2, 4 and 8 (zeros beyond the
    border count), s_4 its mean. The parts have the names of the official code, so that its weight files load.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.scale0 = nn.Sequential(*bn_relu_conv(in_channels, channels))
        self.scale1 = nn.Sequential(nn.AvgPool2d(5, 2, 2), *bn_relu_conv(in_channels, channels))
        self.scale2 = nn.Sequential(nn.AvgPool2d(9, 4, 4), *bn_relu_conv(in_channels, channels))
        self.scale3 = nn.Sequential(nn.AvgPool2d(17, 8, 8), *bn_relu_conv(in_channels, channels))
        self.scale4 = nn.Sequential(GlobalAverage(), *bn_relu_conv(in_channels, channels))
        self.process1 = nn.Sequential(*bn_relu_conv(channels, channels, kernel_size=3))
        self.process2 = nn.Sequential(*bn_relu_conv(channels, channels, kernel_size=3))
        self.process3 = nn.Sequential(*bn_relu_conv(channels, channels, kernel_size=3))
        self.process4 = nn.Sequential(*bn_relu_conv(channels, channels, kernel_size=3))
        self.compression = nn.Sequential(*bn_relu_conv(5 * channels, out_channels))
        self.shortcut = nn.Sequential(*bn_relu_conv(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, h, w)` to `(B, out_channels, h, w)`."""
        needs_two_images(x, self, "DAPPM's global mean")
        y0 = self.scale0(x)  # (B, channels, h, w), as all that follow
        y1 = self.process1(self._pooled(x, self.scale1, 2) + y0)
        y2 = self.process2(self._pooled(x, self.scale2, 4) + y1)
        y3 = self.process3(self._pooled(x, self.scale3, 8) + y2)
        y4 = self.process4(self.scale4(x) + y3)
        return self.compression(torch.cat([y0, y1, y2, y3, y4], dim=1)) + self.shortcut(x)

    def _pooled(self, x: Tensor, scale: nn.Module, stride: int) -> Tensor:
        """Computes a scale's map, `(B, channels, ceil(h / stride), ceil(w / stride))`, and resizes it to `(h, w)`."""
        # F.interpolate(scale(x), x.shape[-2:]) would do, but torch.export (2.15) guards whether a side of its input is
        # 1, as it is for images under 257 pixels at stride 8, and the program refuses all others ("Guard failed:
        # image.size()[3] <= 256"). A matrix of bilinear weights has no such case, and a spare row and column, of
        # weight 0, keep every side above 1. Not in training, where BatchNorm would see them.
        spare = 0 if self.training else 1
        pooled = scale(F.pad(x, (0, spare * stride, 0, spare * stride)))
        (h, w), (rows, columns) = x.shape[-2:], pooled.shape[-2:]
        vertical = bilinear_matrix(rows - spare, h, spare, pooled)  # (h, rows)
        horizontal = bilinear_matrix(columns - spare, w, spare, pooled)  # (w, columns)
        # Four dimensions each: with two, matmul folds (B, C, h) into one, which torch 2.15 also exports.
        return vertical[None, None] @ pooled @ horizontal.T[None, None]


class GlobalAverage(nn.Module):
    """`(B, C, h, w)` to `(B, C, 1, 1)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


def bilinear_matrix(cells: int, size: int, spare: int, like: Tensor) -> Tensor:
    """Builds the matrix `(size, cells + spare)` that resizes as F.interpolate does; spare cells have weight 0."""
    target = torch.arange(size, device=like.device, dtype=torch.float32)
    source = ((target + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    distance = (source.unsqueeze(1) - torch.arange(cells + spare, device=like.device)).abs()
    return (1 - distance).clamp_min(0).to(like.dtype)
