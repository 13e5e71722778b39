"""TensorFlow's SAME padding, of the `tf_` networks of timm, in a form that can be exported for images of any size."""

from typing import Any, cast

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


def pad_by_parity(network: nn.Module) -> None:
    """Makes the strided convolutions of a network compute their padding as `ParityConv2d` does."""
    for module in network.modules():
        if type(module) is Conv2dSame and set(cast(Any, module).stride) <= {1, 2}:
            module.__class__ = ParityConv2d


class ParityConv2d(Conv2dSame):
    """A convolution of stride 1 or 2 with SAME padding, whose size follows from whether a side is odd.

    The result is timm's. Its formula, a maximum of rounded quotients of the size, becomes so long over five strided
    convolutions that `torch.export` with free sizes does not finish.
    """

    weight: Tensor
    bias: Tensor | None
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', ceil(H / stride), ceil(W / stride))`."""
        pads: list[int] = []
        for axis in (1, 0):
            reach = (self.kernel_size[axis] - 1) * self.dilation[axis]
            # A kernel of one pixel reaches nothing, and is not padded at any stride.
            total = reach if self.stride[axis] == 1 or reach == 0 else reach - 1 + x.shape[2 + axis] % 2
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
