"""From an image of any size to scores at its own size: whole, by sliding window, at several scales, mirrored.

Pure functions of (network, image), which validation in training, `src.eval` and `src.predict` share.
"""

import itertools
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.network import Network
from src.upsampling import upsample


@dataclass(frozen=True)
class Protocol:
    """The way in which an image passes through the network; part of the tag of every figure.

    Args:
        size: `(H, W)` to which the image is resized for the network, or None for its own size. Scores always have the
            image's own size, which is that of the labels.
        short_side: in place of `size`, the length of the shorter side that the image is resized to, in its own shape.
        window: `(H, W)` of a sliding window, or None for the whole image at once.
        overlap: of neighbouring windows, a fraction in [0, 1).
        scales: factors on the size; probabilities are averaged over them.
        flip: whether to average over the mirrored image too.
    """

    size: tuple[int, int] | None = None
    short_side: int | None = None
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __str__(self) -> str:
        own = "own size" if self.short_side is None else f"short side {self.short_side}"
        size = "x".join(map(str, self.size)) if self.size else own
        window = f"window {'x'.join(map(str, self.window))} overlap {self.overlap:.2g}" if self.window else "whole"
        scales = "" if self.scales == (1.0,) else f", scales {' '.join(f'{scale:g}' for scale in self.scales)}"
        return f"{window} at {size}{scales}{', flip' if self.flip else ''}"

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the `(H, W)` at which the network sees an image of `size`, before `scales`."""
        if self.short_side is None:
            return self.size or size
        factor = self.short_side / min(size)
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


class Ensemble(nn.ModuleList):
    """Networks of the same classes whose probabilities `predict_scores` averages."""


def predict_scores(network: Network | Ensemble, image: Tensor, protocol: Protocol) -> Tensor:
    """Scores an image `(B, 3, H, W)` in 0..255: float32 `(B, K, H, W)` logits, or logarithms of mean probabilities.

    Probabilities are averaged over scales, mirror images and the networks of an ensemble; a single view gives logits.
    """
    networks = cast(list[Network], list(network) if isinstance(network, Ensemble) else [network])
    views = list(itertools.product(networks, protocol.scales, (False, True)[: 1 + protocol.flip]))
    if len(views) == 1:
        return _view_logits(image, protocol, *views[0])
    probabilities = cast(Tensor, sum(_view_logits(image, protocol, *view).softmax(dim=1) for view in views))
    return (probabilities / len(views)).clamp_min(torch.finfo(torch.float32).tiny).log()


def _view_logits(image: Tensor, protocol: Protocol, network: Network, scale: float, mirrored: bool) -> Tensor:
    """Computes the logits of the resized and mirrored image, and brings them back to the image's own frame."""
    size = (image.shape[-2], image.shape[-1])
    height, width = protocol.seen_size(size)
    target = (max(1, round(height * scale)), max(1, round(width * scale)))
    view = image
    if target != size:
        # Smoothed if it shrinks, as OpenCV's INTER_AREA does for the training crops.
        view = F.interpolate(image.float(), size=target, mode="bilinear", align_corners=False, antialias=True)
    if mirrored:
        view = view.flip(-1)
    if protocol.window is None:
        logits = upsample(network(view)[0].float(), target, network.align_corners)
    else:
        logits = _sliding_logits(network, view, protocol.window, protocol.overlap)
    if mirrored:
        logits = logits.flip(-1)
    return logits if target == size else F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _sliding_logits(network: Network, image: Tensor, window: tuple[int, int], overlap: float) -> Tensor:
    """Averages the logits of overlapping windows; the last window of a row is moved back to end with the image."""
    height, width = image.shape[-2:]
    total: Tensor | None = None
    visits = image.new_zeros((1, 1, height, width), dtype=torch.float32)
    for rows, columns in itertools.product(_spans(height, window[0], overlap), _spans(width, window[1], overlap)):
        crop = image[..., rows, columns]
        logits = upsample(network(crop)[0].float(), (crop.shape[-2], crop.shape[-1]), network.align_corners)
        if total is None:
            total = logits.new_zeros((*logits.shape[:2], height, width))
        total[..., rows, columns] += logits
        visits[..., rows, columns] += 1
    assert total is not None
    return total / visits


def _spans(length: int, window: int, overlap: float) -> list[slice]:
    """Returns the windows along one side of the image."""
    step = max(1, round(window * (1 - overlap)))
    last = max(0, length - window)
    return [slice(start, start + window) for start in (*range(0, last, step), last)]
