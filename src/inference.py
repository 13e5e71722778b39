"""From an image of any size to scores at its own size: whole, sliding window, several scales, flipped.

Pure functions of (network, image); training's validation, `src.eval` and `src.predict` all come through here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.network import Network
from src.upsampling import upsample


@dataclass(frozen=True)
class Protocol:
    """How an image is put through the network; part of the tag of every figure.

    Args:
        size: `(H, W)` the image is resized to for the network, or None for its own size. Scores always come back at
            the image's own size, where the labels are.
        window: `(H, W)` of a sliding window, or None for the whole image at once.
        overlap: of neighbouring windows, a fraction in [0, 1).
        scales: factors on the size; probabilities are averaged over them.
        flip: also average over the mirrored image.
    """

    size: tuple[int, int] | None = None
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __str__(self) -> str:
        size = "own size" if self.size is None else f"{self.size[0]}x{self.size[1]}"
        window = (
            "whole" if self.window is None else f"window {self.window[0]}x{self.window[1]} overlap {self.overlap:.2g}"
        )
        scales = "" if self.scales == (1.0,) else f", scales {' '.join(f'{scale:g}' for scale in self.scales)}"
        return f"{window} at {size}{scales}{', flip' if self.flip else ''}"


class Ensemble(nn.Module):
    """Networks of the same classes whose probabilities `predict_scores` averages."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)


def predict_scores(network: Network | Ensemble, image: Tensor, protocol: Protocol) -> Tensor:
    """Scores an image `(B, 3, H, W)` in 0..255: float32 `(B, K, H, W)` logits, or logarithms of mean probabilities.

    Probabilities are averaged over scales, mirror images and the networks of an ensemble; a single view gives logits.
    """
    networks = network.networks if isinstance(network, Ensemble) else [network]
    mirrors = (False, True)[: 1 + protocol.flip]
    views = [
        (each, protocol, scale, mirrored) for each in networks for scale in protocol.scales for mirrored in mirrors
    ]
    if len(views) == 1:
        return _view_logits(views[0][0], image, *views[0][1:])
    probabilities = sum(_view_logits(each, image, *view).softmax(dim=1) for each, *view in views)
    return (probabilities / len(views)).clamp_min(torch.finfo(torch.float32).tiny).log()


def _view_logits(network: Network, image: Tensor, protocol: Protocol, scale: float, mirrored: bool) -> Tensor:
    """Logits of the image resized and mirrored, brought back to the image's own frame."""
    size = tuple(image.shape[-2:])
    target = tuple(max(1, round(side * scale)) for side in (protocol.size or size))
    view = image if target == size else _resize_image(image, target)
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
    """Mean of the logits of overlapping windows; the last of a row is moved back so that it ends with the image."""
    height, width = image.shape[-2:]
    total, visits = None, image.new_zeros((1, 1, height, width), dtype=torch.float32)
    for rows in _spans(height, window[0], overlap):
        for columns in _spans(width, window[1], overlap):
            crop = image[..., rows, columns]
            logits = upsample(network(crop)[0].float(), tuple(crop.shape[-2:]), network.align_corners)
            if total is None:
                total = logits.new_zeros((*logits.shape[:2], height, width))
            total[..., rows, columns] += logits
            visits[..., rows, columns] += 1
    return total / visits


def _spans(length: int, window: int, overlap: float) -> Iterator[slice]:
    step = max(1, round(window * (1 - overlap)))
    last = max(0, length - window)
    for start in range(0, last + step, step):
        start = min(start, last)
        yield slice(start, start + window)
        if start == last:
            return


def _resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, smoothed when it shrinks, as OpenCV's INTER_AREA does for the training crops."""
    return F.interpolate(image.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
