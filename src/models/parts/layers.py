"""Blocks that more than one architecture uses."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError


def with_bn_relu(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """A convolution, BatchNorm, ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True))


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the size, BatchNorm, ReLU."""
    padding = dilation * (kernel_size // 2)
    return with_bn_relu(nn.Conv2d(in_channels, out_channels, kernel_size, 1, padding, dilation, bias=False))


def separable_conv_bn_relu(
    in_channels: int, out_channels: int, dilation: int = 1, norm_between: bool = True
) -> nn.Sequential:
    """Depthwise 3x3, BatchNorm, ReLU, pointwise 1x1, BatchNorm, ReLU (Chen et al. 2018, atrous separable convolution).

    Args:
        norm_between: the first BatchNorm and ReLU, as in the authors' `split_separable_conv2d`; smp and VainF's network
            have none.
    """
    depthwise = nn.Conv2d(in_channels, in_channels, 3, 1, dilation, dilation, groups=in_channels, bias=False)
    return nn.Sequential(
        *(with_bn_relu(depthwise) if norm_between else [depthwise]),
        *conv_bn_relu(in_channels, out_channels, kernel_size=1),
    )


def resize(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resizes `(B, C, h, w)` bilinearly to `(B, C, *size)`."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def needs_two_images(x: Tensor, module: nn.Module, name: str) -> None:
    """Raises UserError if `module` trains on one image: BatchNorm has no variance over a single pixel."""
    if module.training and x.shape[0] == 1:
        raise UserError(
            f"{name} normalises over the batch and cannot be trained on one image per device; set data.batch_size to "
            "2 or more per device"
        )


class FCNHead(nn.Sequential):
    """A 3x3 convolution, dropout and classifier (Long et al. 2015, as in torchvision); the usual auxiliary head."""

    def __init__(self, in_channels: int, channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__(
            *conv_bn_relu(in_channels, channels), nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1)
        )


def pooling_matrix(size: int, num_bins: int, like: Tensor) -> Tensor:
    """Builds `(num_bins, size)`: row i averages the cells floor(i size / bins) to ceil((i + 1) size / bins) - 1.

    These are the cells of adaptive average pooling. A matrix is exported with a size that is not known yet, whereas
    `F.adaptive_avg_pool2d` is unrolled for the size at which it was exported, and silently wrong at another.
    """
    cell = torch.arange(size, device=like.device)
    row = torch.arange(num_bins, device=like.device).unsqueeze(1)
    first = (row * size) // num_bins
    last = ((row + 1) * size + num_bins - 1) // num_bins
    inside = ((cell >= first) & (cell < last)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


class PyramidPooling(nn.Module):
    """The branches of the pyramid pooling module (Zhao et al. 2017): bins, 1x1, BatchNorm, ReLU, upsampled.

    Args:
        channels: of each branch.
        bins: side of each pooled map.
        align_corners: of the upsampling; True in PSPNet's own code.
    """

    def __init__(
        self, in_channels: int, channels: int, bins: Sequence[int] = (1, 2, 3, 6), align_corners: bool = False
    ) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.align_corners = align_corners
        self.branches = nn.ModuleList(conv_bn_relu(in_channels, channels, kernel_size=1) for _ in bins)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B, C + len(bins) * channels, h, w)`, the input first."""
        needs_two_images(x, self, "pyramid pooling")
        height, width = x.shape[-2:]
        # Pooled along the width for all bins at once: one pass over the large map instead of one per bin.
        columns = torch.cat([pooling_matrix(width, bins, x) for bins in self.bins])
        rows = (x @ columns.T).split(self.bins, dim=-1)  # (B, C, h, bins) each
        maps = [x]
        for bins, branch, row in zip(self.bins, self.branches, rows, strict=True):
            pooled = branch(pooling_matrix(height, bins, x) @ row)  # (B, channels, bins, bins)
            maps.append(resize(pooled, (height, width), self.align_corners))
        return torch.cat(maps, dim=1)
