"""Losses computed in row bands, from logits at a network's stride and a mask of full size.

Full-size logits are the largest tensor of a training step: 19 x 1024 x 2048 float32 is 159 MB per image, and the usual
loss holds seven copies. Here the forward pass brings up one band of rows, reduces it to statistics and drops it; the
backward pass brings it up again and differentiates. Value and gradient are those of the whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from src.collective import sum_over_ranks
from src.errors import UserError
from src.labels import IGNORE_INDEX
from src.upsampling import RowUpsampling

# Bytes of the logits of a band; the backward pass of a term holds about eight such tensors. An idle CPU is fastest with
# bands that fit its cache (4 MiB); on a busy one threads wait for each other after every operation, and larger bands
# have fewer operations. On a GPU larger bands save kernel launches, which small steps wait for.
BAND_BYTES = {"cpu": 16 * 2**20}
BAND_BYTES_ELSEWHERE = 64 * 2**20

Weights = Mapping[str, Tensor | None]  # `pixel_weights` of each term by name


class Term(nn.Module, ABC):
    """A loss computed in row bands: `statistics` per band, then `finish` reduces them to a scalar.

    Attributes:
        by_pixel: whether statistics are a map `(B, h, W)`, whose bands are joined; else they are sums, whose bands are
            added up.
        adds_up: whether, in training on several devices, the statistics are summed over them, which makes the loss that
            of the whole batch; else it is the mean of the devices' losses.
    """

    by_pixel = False
    adds_up = True

    def pixel_weights(self, mask: Tensor) -> Tensor | None:
        """Weights `(B, H, W)` that depend only on the labels `(B, H, W)`; None if all pixels weigh the same."""
        return None

    @abstractmethod
    def statistics(self, rows: Rows, weights: Tensor | None) -> Tensor:
        """Reduces these rows and their `pixel_weights` to a tensor with a gradient to `rows.logits`."""

    @abstractmethod
    def finish(self, statistics: Tensor) -> Tensor:
        """Reduces the `statistics` of all rows to the scalar, by ordinary autograd."""

    def forward(self, logits: Tensor, mask: Tensor, align_corners: bool = False) -> Tensor:
        """Logits `(B, K, h, w)` at any stride and mask `(B, H, W)`, ids 0..K-1 or 255, to a scalar."""
        return score({"": self}, logits, mask, {"": self.pixel_weights(mask)}, align_corners)[""]


class PixelMean(Term, ABC):
    """The weighted mean of a loss per pixel over the pixels not ignored; 0 with zero gradient if all are ignored.

    Args:
        class_weights: K non-negative weights, or None for equal ones.

    Raises:
        UserError: a negative weight, the name of a weighting in place of weights, or not K of them.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if isinstance(class_weights, str):
            raise UserError(
                f"class_weights={class_weights}: must be numbers; src.config.open.complete replaces a name by them"
            )
        if class_weights is not None and min(class_weights) < 0:
            raise UserError(f"class_weights={list(class_weights)}: none may be negative")
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    @abstractmethod
    def pixel_loss(self, rows: Rows) -> Tensor:
        """Computes `(B, h, W)`, times the weight of the class; any finite value at ignored pixels."""

    def statistics(self, rows: Rows, weights: Tensor | None) -> Tensor:
        """Sums of the loss and of the weights: `(2,)`."""
        counts = rows.valid.to(rows.logits.dtype)
        if weights is not None:
            counts = counts * weights
        total = (self.pixel_loss(rows) * counts).sum()
        if self.class_weights is not None:
            counts = counts * self.weight_of_truth(rows)
        return torch.stack([total, counts.sum()])

    def finish(self, statistics: Tensor) -> Tensor:
        total, weight = statistics
        return ratio(total, weight)

    def weights_of_classes(self, rows: Rows) -> Tensor:
        """The class weights `(K,)`, of which there must be some; raises UserError if they are not K."""
        assert self.class_weights is not None
        num_classes = rows.logits.shape[1]
        if len(self.class_weights) != num_classes:
            raise UserError(f"class_weights has {len(self.class_weights)} values for {num_classes} classes")
        return self.class_weights.to(rows.logits.dtype)

    def weight_of_truth(self, rows: Rows) -> Tensor:
        """The weight of each pixel's class, `(B, h, W)`; there must be class weights."""
        return self.weights_of_classes(rows)[rows.target]


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """Computes total / count, and 0 with zero gradient if the count is 0 (and the total with it)."""
    # Not clamp_min(tiny): its gradient of 1e38 becomes infinite, then NaN, under the loss scaling of float16.
    return total / torch.where(count > 0, count, 1)


class Rows:
    """Some rows of a batch, all columns, and what terms derive from them, computed once for all terms.

    Args:
        logits: float32 or float64 `(B, K, h, W)`.
        mask: int64 `(B, h, W)`, ids 0..K-1 or 255.
    """

    def __init__(self, logits: Tensor, mask: Tensor) -> None:
        self.logits = logits
        self.mask = mask

    @cached_property
    def valid(self) -> Tensor:
        """Bool `(B, h, W)`: not ignored."""
        return self.mask != IGNORE_INDEX

    @cached_property
    def target(self) -> Tensor:
        """Int64 `(B, h, W)` in 0..K-1, 0 at ignored pixels."""
        return self.mask.where(self.valid, 0)

    @cached_property
    def log_probabilities(self) -> Tensor:
        return self.logits.log_softmax(dim=1)

    @cached_property
    def probabilities(self) -> Tensor:
        return self.log_probabilities.exp()

    @cached_property
    def log_truth(self) -> Tensor:
        """Log-probability of the true class, `(B, h, W)`; of class 0 at ignored pixels."""
        return self.log_probabilities.gather(1, self.target.unsqueeze(1)).squeeze(1)


def score(
    terms: Mapping[str, Term], logits: Tensor, mask: Tensor, weights: Weights, align_corners: bool
) -> dict[str, Tensor]:
    """Computes the scalars of all terms in one pass over the bands.

    The precision is float32, or float64 for float64 logits, even under autocast.

    Args:
        terms: by name.
        logits: `(B, K, h, w)` at the network's stride, any float type.
        mask: `(B, H, W)`, any integer type, ids 0..K-1 or 255.
        weights: each term's `pixel_weights(mask)`.
        align_corners: of the network, see `src.upsampling.upsample`.
    """
    if not terms:
        return {}
    with torch.autocast(logits.device.type, enabled=False):
        bands = Bands(terms, logits, mask, weights, align_corners)
        statistics: Sequence[Tensor]
        if len(bands.limits) == 1:  # nothing is gained by computing it again in the backward pass
            (limits,) = bands.limits
            statistics = bands.statistics(bands.source(logits, *limits), mask, *limits)
        else:
            statistics = _Statistics.apply(logits, mask, bands)  # pyright: ignore[reportAssignmentType]
        if torch.is_grad_enabled():  # in a validation the ranks have unequal numbers of batches
            pairs = zip(terms.values(), statistics, strict=True)
            statistics = tuple(sum_over_ranks(made) if term.adds_up else made for term, made in pairs)
        return {name: term.finish(made) for (name, term), made in zip(terms.items(), statistics, strict=True)}


class Bands:
    """Cuts the rows of a mask into bands and computes the terms' statistics of one band."""

    def __init__(
        self, terms: Mapping[str, Term], logits: Tensor, mask: Tensor, weights: Weights, align_corners: bool
    ) -> None:
        height, width = mask.shape[-2:]
        self.terms, self.weights = terms, weights
        self.dtype = torch.promote_types(logits.dtype, torch.float32)
        self.upsampling = RowUpsampling((logits.shape[-2], logits.shape[-1]), (height, width), align_corners)
        row_bytes = logits.shape[0] * logits.shape[1] * width * self.dtype.itemsize
        rows = band_rows(row_bytes, BAND_BYTES.get(logits.device.type, BAND_BYTES_ELSEWHERE))
        self.limits = [(start, min(height, start + rows)) for start in range(0, height, rows)]

    def source(self, logits: Tensor, start: int, stop: int) -> Tensor:
        """The logits that affect rows start..stop-1 of the mask, in the loss's precision."""
        # Contiguous: sums over pixels of one class are several times slower if the classes of a pixel lie together.
        return logits[:, :, self.upsampling.needed(start, stop)].to(self.dtype).contiguous()

    def statistics(self, source: Tensor, mask: Tensor, start: int, stop: int) -> list[Tensor]:
        """The statistics of each term for rows start..stop-1, from their `source`."""
        rows = Rows(self.upsampling.rows(source, start, stop), mask[:, start:stop].long())
        weights = {name: None if full is None else full[:, start:stop] for name, full in self.weights.items()}
        return [term.statistics(rows, weights[name]) for name, term in self.terms.items()]

    def of_rows(self, statistics: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
        """Slices statistics per pixel to these rows; returns sums unchanged."""
        pairs = zip(self.terms.values(), statistics, strict=True)
        return [whole[:, start:stop] if term.by_pixel else whole for term, whole in pairs]


def band_rows(row_bytes: int, budget: int) -> int:
    """The number of rows of `row_bytes` each that fit the budget; at least one."""
    return max(1, budget // row_bytes)


class _Statistics(torch.autograd.Function):
    """The statistics of every term; keeps only its input for the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, mask: Tensor, bands: Bands) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, mask)
        ctx.bands = bands
        result: list[Tensor] = []
        for limits in bands.limits:
            made = bands.statistics(bands.source(logits, *limits), mask, *limits)
            # Into tensors made once: one that stayed behind after every band would split the free memory, so that the
            # next band would not fit where the last one was.
            if not result:
                shapes = [mask.shape if term.by_pixel else None for term in bands.terms.values()]
                result = [band.new_zeros(shape or band.shape) for band, shape in zip(made, shapes, strict=True)]
            for whole, band in zip(bands.of_rows(result, *limits), made, strict=True):
                whole.add_(band)
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, mask = ctx.saved_tensors
        bands: Bands = ctx.bands
        result = torch.zeros(logits.shape, dtype=bands.dtype, device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            for limits in bands.limits:
                source = bands.source(logits, *limits).detach().requires_grad_()
                with torch.enable_grad():
                    statistics = bands.statistics(source, mask, *limits)
                (gradient,) = torch.autograd.grad(statistics, source, bands.of_rows(gradients, *limits))
                result[:, :, bands.upsampling.needed(*limits)] += gradient
        return result.to(logits.dtype), None, None
