"""The upsampling of logits to the size of the mask, which losses and inference share."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Brings logits `(B, K, h, w)` of a network at stride s to `(B, K, *size)`.

    A network pads its input to a multiple of its stride and returns ceil(size / s) rows, so scaling by size / h would
    stretch the map by up to one stride; this scales by s exactly and crops.

    With `align_corners` the corners of map and image coincide. A network that pads to s n + 1 returns
    ceil((size - 1) / s) + 1 rows, the last of them on the last padded row: it too is brought up by s exactly, and
    cropped. Any other is stretched to the image, as the code of the networks that ask for it does.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    height, width = (_covered(*sides, align_corners) for sides in zip(size, logits.shape[-2:], strict=True))
    full = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=align_corners)
    return full[..., : size[0], : size[1]]


@dataclass(frozen=True)
class RowUpsampling:
    """Computes `upsample` some rows at a time.

    Args:
        source: `(h, w)` of the logits.
        size: `(H, W)` of the result.
        is_resize: whether the whole map becomes the whole result, larger or smaller, as by `F.interpolate`.
    """

    source: tuple[int, int]
    size: tuple[int, int]
    align_corners: bool
    is_resize: bool = False

    def needed(self, start: int, stop: int) -> slice:
        """The rows of the logits that affect rows start..stop-1 of the result, and up to one more at each end."""
        if self.source == self.size:
            return slice(start, stop)
        first, last = (float(self._places(torch.tensor([float(row)]))) for row in (start, stop - 1))
        return slice(max(0, int(first) - 1), min(self.source[0], int(last) + 3))

    def rows(self, part: Tensor, start: int, stop: int) -> Tensor:
        """Computes rows start..stop-1 of `upsample(logits)`, `(B, K, stop - start, W)`, of `logits[:, :, needed]`."""
        if self.source == self.size:
            return part
        # In the precision of the logits, as F.interpolate computes them.
        row = self._places(torch.arange(start, stop, dtype=part.dtype, device=part.device))
        last = self.source[0] - 1
        upper = row.floor().clamp_max(last)
        weight = (row - upper).unsqueeze(1)
        first = self.needed(start, stop).start
        above, below = upper.long(), (upper.long() + 1).clamp_max(last)
        mixed = torch.lerp(part.index_select(2, above - first), part.index_select(2, below - first), weight)
        if self.source[1] == self.size[1]:
            return mixed
        width = self._covered(1)
        full = F.interpolate(mixed, (stop - start, width), mode="bilinear", align_corners=self.align_corners)
        return full[..., : self.size[1]]

    def _places(self, row: Tensor) -> Tensor:
        """Returns the places in the logits of rows of the result."""
        if self.align_corners:
            return row * ((self.source[0] - 1) / max(1, self._covered(0) - 1))
        return ((row + 0.5) * (self.source[0] / self._covered(0)) - 0.5).clamp_min(0)

    def _covered(self, side: int) -> int:
        """Returns the rows (0) or columns (1) that the whole map stands for."""
        return self.size[side] if self.is_resize else _covered(self.size[side], self.source[side], self.align_corners)


def _covered(pixels: int, rows: int, align_corners: bool) -> int:
    """Rows of the padded image that a map of so many rows stands for."""
    stride = stride_of(pixels, rows)
    if not align_corners:
        return rows * stride
    # One row more than ceil(pixels / stride): a network of s n + 1 rows. Below 2 s pixels it may be taken for another.
    return (rows - 1) * stride + 1 if (rows - 1) * stride >= pixels - 1 else pixels


def stride_of(pixels: int, rows: int) -> int:
    """The power of two s with rows = ceil(pixels / s); if rows is 1, any s gives the same map."""
    stride = 1
    while rows * stride < pixels:
        stride *= 2
    return stride
