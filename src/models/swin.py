"""Swin Transformers (Liu et al. 2021, 2022) at sizes that are no multiple of a window."""

from typing import Any, cast

import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock
from torch import Tensor, nn


def pad_before_shift(encoder: nn.Module) -> None:
    """Makes the blocks of a Swin Transformer pad their map to whole windows before they shift it, as the authors do.

    timm shifts first (pytorch-image-models #2438). The rows that come round from the top then lie before the padding,
    where its mask does not divide them from the rows at the bottom.
    """
    for module in encoder.modules():
        for kind, padded in PADDED.items():
            if type(module) is kind:
                module.__class__ = padded


def _to_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Pads `(B, h, w, C)` at the bottom and the right to multiples of the window."""
    (down, right), (height, width) = window, x.shape[1:3]
    return F.pad(x, (0, 0, 0, (right - width % right) % right, 0, (down - height % down) % down))


class PaddedSwinBlock(SwinTransformerBlock):
    """A block whose map is whole windows when it is shifted; what timm pads after that is nothing."""

    def _attn(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        return super()._attn(_to_windows(x, _window(self)))[:, :height, :width]


class PaddedSwinV2Block(SwinTransformerV2Block):
    """As `PaddedSwinBlock`, of the second version."""

    def _attn(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        return super()._attn(_to_windows(x, _window(self)))[:, :height, :width]


class PaddedSwinV2CrBlock(SwinTransformerV2CrBlock):
    """As `PaddedSwinBlock`, of timm's other second version."""

    def _shifted_window_attn(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        return super()._shifted_window_attn(_to_windows(x, _window(self)))[:, :height, :width]


PADDED: dict[type[nn.Module], type[nn.Module]] = {
    SwinTransformerBlock: PaddedSwinBlock,
    SwinTransformerV2Block: PaddedSwinV2Block,
    SwinTransformerV2CrBlock: PaddedSwinV2CrBlock,
}


def _window(block: nn.Module) -> tuple[int, int]:
    return cast(tuple[int, int], cast(Any, block).window_size)
