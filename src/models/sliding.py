"""Logits by sliding window, finished from above, so that memory holds two rows of windows and not the whole image."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.network import Network, finite_logits
from src.upsampling import upsample


@dataclass(frozen=True)
class Windows:
    """Windows over an image.

    Args:
        size: `(H, W)` of a window.
        overlap: of neighbouring windows, a fraction in [0, 1).
        weights: `flat`, or `gaussian`: pixels in the middle of a window, which see most of their surroundings, weigh
            more (nnU-Net: standard deviation an eighth of the window, Isensee et al. 2021).
    """

    size: tuple[int, int]
    overlap: float
    weights: str = "flat"

    def spans(self, length: int, side: int) -> list[slice]:
        """Returns the windows along rows (0) or columns (1); the last is moved back to end with the image."""
        window = self.size[side]
        step = max(1, round(window * (1 - self.overlap)))
        last = max(0, length - window)
        return [slice(start, min(length, start + window)) for start in (*range(0, last, step), last)]

    def weigh(self, height: int, width: int, like: Tensor) -> Tensor:
        """Returns the weights `(height, width)` of a window's pixels, above 0."""
        if self.weights == "flat":
            return torch.ones(height, width, dtype=torch.float32, device=like.device)
        rows, columns = (self._bell(length, like) for length in (height, width))
        return (rows[:, None] * columns).clamp_min(1e-6)

    @staticmethod
    def _bell(length: int, like: Tensor) -> Tensor:
        place = torch.arange(length, dtype=torch.float32, device=like.device)
        return torch.exp(-0.5 * ((place - (length - 1) / 2) / (length / 8)) ** 2)


def sliding_rows(
    network: Network, image: Tensor, target: tuple[int, int], windows: Windows, *, mirrored: bool
) -> Iterator[Tensor]:
    """Yields the logits float32 `(B, K, h, W)` of consecutive rows of an image, averaged over overlapping windows.

    Args:
        image: `(B, 3, H, W)` in 0..255.
        target: the size that it is resized to, row of windows by row.
        mirrored: whether the network sees it mirrored; so are the logits.
    """
    rows = windows.spans(target[0], 0)
    carried: tuple[Tensor, Tensor] | None = None  # sums of logits and of weights, of the rows that are not finished
    for span, following in itertools.zip_longest(rows, rows[1:]):
        strip = resized_rows(image, target, span)
        total, weights = _row_of_windows(network, strip.flip(-1) if mirrored else strip, windows)
        if carried is not None:
            height = carried[0].shape[2]
            total[:, :, :height] += carried[0]
            weights[:height] += carried[1]
        finished = total.shape[2] if following is None else following.start - span.start
        carried = (total[:, :, finished:].clone(), weights[finished:].clone())
        done = total[:, :, :finished].div_(weights[:finished])
        del total, strip
        yield done
        del done


def _row_of_windows(network: Network, strip: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Returns the sum of weighted logits `(B, K, h, W)` of the windows side by side, and of the weights `(h, W)`."""
    height, width = strip.shape[-2:]
    total: Tensor | None = None
    sum_of_weights = torch.zeros(height, width, dtype=torch.float32, device=strip.device)
    for columns in windows.spans(width, 1):
        crop = strip[..., columns]
        logits = upsample(finite_logits(network, crop).float(), (height, crop.shape[-1]), network.align_corners)
        weights = windows.weigh(height, crop.shape[-1], logits)
        if total is None:
            total = logits.new_zeros((*logits.shape[:2], height, width))
        total[..., columns].addcmul_(logits, weights)
        sum_of_weights[:, columns] += weights
    assert total is not None
    return total, sum_of_weights


def resized_rows(image: Tensor, target: tuple[int, int], rows: slice) -> Tensor:
    """Returns some rows of `src.inference.resize(image, target)`, without the rest of it.

    The rows are mixed by the same triangle filter: its half width is a pixel, or the factor by which the image shrinks.
    """
    height, width = image.shape[-2:]
    if (height, width) == target:
        return image[..., rows, :]
    scale = height / target[0]
    support = max(scale, 1.0)
    centre = (torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) * scale
    first, last = max(0, int(centre[0] - support)), min(height, int(centre[-1] + support) + 1)
    place = torch.arange(first, last, dtype=torch.float64) + 0.5
    filters = (1 - (place - centre[:, None]).abs() / support).clamp_min(0)
    filters = (filters / filters.sum(1, keepdim=True)).to(image.device, torch.float32)  # (rows, last - first)
    part = image[..., first:last, :].float()
    if width != target[1]:
        size = (part.shape[-2], target[1])
        part = F.interpolate(part, size=size, mode="bilinear", align_corners=False, antialias=True)
    with torch.autocast(image.device.type, enabled=False):  # 16 bits would round colours
        return filters @ part
