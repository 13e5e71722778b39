"""Bringing logits to the size of the mask. Used by losses and inference, so that the two cannot disagree."""

import torch.nn.functional as F
from torch import Tensor


def upsample(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Logits `(B, K, h, w)` of a network at stride s to `(B, K, *size)`.

    A network pads its input to a multiple of its stride and returns ceil(size / s) rows, so scaling by size / h would
    stretch the map by up to one stride; this scales by s exactly and crops. With `align_corners` the corners of map and
    image coincide and the map is stretched, as in the networks that ask for it (PSPNet's 8n + 1 inputs).
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    if align_corners:
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
    height, width = (rows * _stride(pixels, rows) for pixels, rows in zip(size, logits.shape[-2:], strict=True))
    full = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    return full[..., : size[0], : size[1]]


def _stride(pixels: int, rows: int) -> int:
    """The power of two s with rows = ceil(pixels / s); where rows is 1 any s gives the same map."""
    stride = 1
    while rows * stride < pixels:
        stride *= 2
    return stride
