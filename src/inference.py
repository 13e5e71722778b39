"""From an image of any size to scores: whole, by sliding window, at several scales, mirrored.

Functions of (network, image), which validation in training, `src.eval` and `src.predict` share. Scores come in bands of
rows, so that those of a whole image need never exist: 19 classes of 4096x8192 pixels are 2.5 GB.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.crf.mean_field import refine
from src.crf.settings import DenseCRF
from src.models.ensemble import Ensemble, mean_scores
from src.models.network import Network, finite_logits
from src.models.sliding import Windows, sliding_rows
from src.upsampling import RowUpsampling

Rows = Iterator[tuple[int, Tensor]]  # the first row and the scores of each band
BAND_BYTES = 32 * 2**20  # of the scores of a band; three such tensors exist at a time


@dataclass(frozen=True)
class Protocol:
    """The way in which an image passes through the network; part of the tag of every figure.

    Args:
        size: `(H, W)` to which the image is resized for the network, or None for its own size.
        short_side: in place of `size`, the length of the shorter side that the image is resized to, in its own shape.
        window: `(H, W)` of a sliding window, or None for the whole image at once.
        overlap: of neighbouring windows, a fraction in [0, 1).
        weights: of the pixels of a window, `flat` or `gaussian` (`src.models.sliding`).
        scales: factors on the size; probabilities are averaged over them.
        flip: whether to average over the mirrored image too.
        labels: `own`, to count at the size of the labels; `seen`, to resize the labels to the size that the network
            sees, by nearest neighbour.
        crop: `(H, W)` of the middle of the resized image, which is all that is seen and counted; or None.
        crf: refines the mean of all views by the colours of the image; or None.
    """

    size: tuple[int, int] | None = None
    short_side: int | None = None
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    weights: str = "flat"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    labels: str = "own"
    crop: tuple[int, int] | None = None
    crf: DenseCRF | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Protocol":
        """Makes a protocol from a configuration, which has lists for tuples and a dict for the CRF."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
        }
        if values.get("crf") is not None:
            values["crf"] = DenseCRF(**values["crf"])
        return cls(**values)

    def __str__(self) -> str:
        own = "own size" if self.short_side is None else f"short side {self.short_side}"
        size = _text(self.size) if self.size else own
        window = f"window {_text(self.window)} overlap {self.overlap:.2g}" if self.window else "whole"
        weights = " gaussian" if self.window and self.weights == "gaussian" else ""
        scales = "" if self.scales == (1.0,) else f", scales {' '.join(f'{scale:g}' for scale in self.scales)}"
        crop = f", centre crop {_text(self.crop)}" if self.crop else ""
        labels = ", labels at that size" if self.labels == "seen" else ""
        crf = "" if self.crf is None else f", {self.crf}"
        return f"{window}{weights} at {size}{crop}{labels}{scales}{', flip' if self.flip else ''}{crf}"

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the `(H, W)` at which the network sees an image of `size`, before `crop` and `scales`."""
        if self.short_side is None:
            return self.size or size
        factor = self.short_side / min(size)
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    @property
    def at_own_size(self) -> "Protocol":
        """The same for a prediction, which has the image's own size and all of it."""
        return replace(self, labels="own", crop=None)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def fit_labels(image: Tensor, mask: Tensor, protocol: Protocol) -> tuple[Tensor, Tensor, Protocol]:
    """Resizes and crops image `(B, 3, H, W)` and mask `(B, H, W)` to what a protocol counts.

    Returns:
        The image in 0..255, its mask, and the protocol for the two, which counts at the size of the labels.
    """
    size = (image.shape[-2], image.shape[-1])
    if protocol.labels == "seen":
        if (seen := protocol.seen_size(size)) != size:
            image = resize(image, seen)
            mask = F.interpolate(mask.unsqueeze(1), size=seen, mode="nearest-exact").squeeze(1)
        protocol = replace(protocol, size=None, short_side=None)
    if protocol.crop:
        height, width = (min(pair) for pair in zip(protocol.crop, image.shape[-2:], strict=True))
        top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
        area = (..., slice(top, top + height), slice(left, left + width))
        image, mask = image[area], mask[area]
    return image, mask, protocol.at_own_size


def predict_scores(network: Network | Ensemble, image: Tensor, protocol: Protocol) -> Tensor:
    """Scores an image `(B, 3, H, W)` in 0..255: float32 `(B, K, H, W)` logits, or logarithms of mean probabilities.

    Probabilities are averaged over scales, mirror images and the networks of an ensemble; a single view gives logits.
    A CRF gives logarithms of its marginals.
    """
    scores: Tensor | None = None
    for start, rows in predict_rows(network, image, protocol):
        if rows.shape[-2:] == image.shape[-2:]:
            return rows
        if scores is None:
            scores = rows.new_empty((*rows.shape[:2], image.shape[-2], image.shape[-1]))
        scores[:, :, start : start + rows.shape[2]] = rows
    assert scores is not None
    return scores


def predict_rows(network: Network | Ensemble, image: Tensor, protocol: Protocol, band_bytes: int = BAND_BYTES) -> Rows:
    """Yields the `predict_scores` of an image in bands of rows: the first row, and float32 `(B, K, h, W)`.

    Above the uint8 image and the network, memory holds a few bands, and per view the network's own output or, with
    windows, two rows of these. A CRF needs all scores of the image at once, and yields one band.

    Args:
        band_bytes: of a band's scores, about.
    """
    if protocol.crf is not None:
        yield 0, refine(predict_scores(network, image, replace(protocol, crf=None)), image, protocol.crf)
        return
    networks = network.members if isinstance(network, Ensemble) else [network]
    mirrors = (False, True)[: 1 + protocol.flip]
    views = [_View(image, protocol, *view) for view in itertools.product(networks, protocol.scales, mirrors)]
    height, start, rows = image.shape[-2], 0, 1
    while start < height:
        stop = min(height, start + rows)
        band = _mean_scores(views, start, stop)
        yield start, band
        start, rows = stop, max(1, band_bytes * (stop - start) // (4 * band.numel()))


def most_likely(scores: Tensor) -> Tensor:
    """Returns the class of the highest score, int64 `(B, H, W)`, the first of equals; scores `(B, K, H, W)`."""
    return scores.max(dim=1).indices  # argmax(dim=1) is the same and, on a CPU, several times slower


def _mean_scores(views: list["_View"], start: int, stop: int) -> Tensor:
    """Returns rows of the logits of one view, or of the logarithm of the mean probabilities of several."""
    if len(views) == 1:
        return views[0].rows(start, stop)
    return mean_scores(view.rows(start, stop) for view in views)


class _View:
    """The logits of a resized, perhaps mirrored image, brought back to the image's own frame row by row."""

    def __init__(self, image: Tensor, protocol: Protocol, network: Network, scale: float, mirrored: bool) -> None:
        size = (image.shape[-2], image.shape[-1])
        height, width = protocol.seen_size(size)
        target = (max(1, round(height * scale)), max(1, round(width * scale)))
        self.mirrored = mirrored
        self.back = RowUpsampling(target, size, align_corners=False, is_resize=True)
        if protocol.window is None:
            view = image if target == size else resize(image, target)
            self.logits = finite_logits(network, view.flip(-1) if mirrored else view)
            source = (self.logits.shape[-2], self.logits.shape[-1])
            self.up = RowUpsampling(source, target, network.align_corners)
        else:
            self.logits = None
            windows = Windows(protocol.window, protocol.overlap, protocol.weights)
            self.finished = sliding_rows(network, image, target, windows, mirrored=mirrored)
            self.start, self.kept = 0, None

    def rows(self, start: int, stop: int) -> Tensor:
        """Returns rows start..stop-1 of the logits, float32 `(B, K, stop - start, W)`; `start` must not decrease."""
        needed = self.back.needed(start, stop)
        part = self.back.rows(self._target_rows(needed.start, needed.stop), start, stop)
        return part.flip(-1) if self.mirrored else part

    def _target_rows(self, start: int, stop: int) -> Tensor:
        if self.logits is not None:
            needed = self.up.needed(start, stop)
            return self.up.rows(self.logits[:, :, needed].float(), start, stop)
        while self.kept is None or self.start + self.kept.shape[2] < stop:
            if self.kept is not None:  # a copy, so that the rows before it can be given back
                self.start, self.kept = start, self.kept[:, :, start - self.start :].clone()
            more = next(self.finished)
            self.kept = more if self.kept is None or not self.kept.shape[2] else torch.cat([self.kept, more], dim=2)
        return self.kept[:, :, start - self.start : stop - self.start]


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes images `(B, 3, H, W)` to float32, smoothed if they shrink, as OpenCV's INTER_AREA does for crops."""
    return F.interpolate(image.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
