"""Scores logits at a network's stride against a full-size mask, row band by row band.

Full-size logits are the largest tensor of a training step: 19 x 1024 x 2048 float32 is 159 MB an image, and the usual
loss holds seven copies. Here a band of rows is brought up, scored and thrown away, forward; and brought up again and
differentiated, backward. Value and gradient are those of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from src.losses.rows import Rows
from src.upsampling import RowUpsampling

if TYPE_CHECKING:
    from src.losses.term import Term

# Of a band's logits; a term's backward holds about eight such tensors. A CPU that nobody else uses is fastest with what
# fits its cache (4 MiB); but on a busy one threads wait for each other after every operation, and larger bands have
# fewer operations. On a GPU they save kernel launches.
BAND_BYTES = {"cpu": 16 * 2**20}
BAND_BYTES_ELSEWHERE = 24 * 2**20


def score(
    terms: Mapping[str, Term],
    logits: Tensor,
    mask: Tensor,
    weights: Mapping[str, Tensor | None],
    align_corners: bool = False,
) -> dict[str, Tensor]:
    """The terms' scalars by name, all from one pass over the bands.

    Computes in float32, in float64 for such logits, whatever autocast says.

    Args:
        terms: by name.
        logits: `(B, K, h, w)` at the network's stride, any float type.
        mask: `(B, H, W)`, any integer type, ids 0..K-1 or 255.
        weights: each term's `pixel_weights(mask)`.
        align_corners: how the network wants its logits brought up (`src.upsampling.upsample`).
    """
    if not terms:
        return {}
    with torch.autocast(logits.device.type, enabled=False):
        bands = Bands(terms, logits, mask, weights, align_corners)
        statistics = _Statistics.apply(logits, mask, bands)
        return {name: term.finish(made) for (name, term), made in zip(terms.items(), statistics, strict=True)}


class Bands:
    """Cuts the rows of a mask into bands, and makes the terms' statistics of one."""

    def __init__(
        self,
        terms: Mapping[str, Term],
        logits: Tensor,
        mask: Tensor,
        weights: Mapping[str, Tensor | None],
        align_corners: bool,
    ) -> None:
        size = tuple(mask.shape[-2:])
        self.terms = terms
        self.dtype = torch.promote_types(logits.dtype, torch.float32)
        self.upsampling = RowUpsampling(tuple(logits.shape[-2:]), size, align_corners)
        self.weights = weights
        row_bytes = logits.shape[0] * logits.shape[1] * size[1] * self.dtype.itemsize
        rows = band_rows(row_bytes, BAND_BYTES.get(logits.device.type, BAND_BYTES_ELSEWHERE))
        self.limits = [(start, min(size[0], start + rows)) for start in range(0, size[0], rows)]

    def part(self, tensor: Tensor, start: int, stop: int) -> Tensor:
        """The rows of a tensor like the logits that rows start..stop-1 of the mask are scored by; a view."""
        return tensor[:, :, self.upsampling.needed(start, stop)]

    def source(self, logits: Tensor, start: int, stop: int) -> Tensor:
        # Contiguous: sums over pixels of one class are several times slower where the classes of a pixel lie together.
        return self.part(logits, start, stop).detach().to(self.dtype).contiguous()

    def statistics(self, source: Tensor, mask: Tensor, start: int, stop: int) -> list[Tensor]:
        """Of each term, of rows start..stop-1, from what `source` gave for them."""
        rows = Rows(self.upsampling.rows(source, start, stop), mask[:, start:stop].long())
        weights = {name: None if full is None else full[:, start:stop] for name, full in self.weights.items()}
        return [term.statistics(rows, weights[name]) for name, term in self.terms.items()]

    def empty(self, term: Term, statistics: Tensor, mask: Tensor) -> Tensor:
        """Zeros for a term's statistics of all rows, from those of a band."""
        return statistics.new_zeros(mask.shape if term.by_pixel else statistics.shape)

    def of_rows(self, statistics: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
        """The rows of those that are maps; the others as they are."""
        pairs = zip(self.terms.values(), statistics, strict=True)
        return [whole[:, start:stop] if term.by_pixel else whole for term, whole in pairs]


def band_rows(row_bytes: int, budget: int) -> int:
    """How many rows of so many bytes fit the budget; at least one."""
    return max(1, budget // row_bytes)


class _Statistics(torch.autograd.Function):
    """The statistics of every term; what it keeps for backward is its input."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, mask: Tensor, bands: Bands) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, mask)
        ctx.bands = bands
        result: list[Tensor] = []
        for limits in bands.limits:
            made = bands.statistics(bands.source(logits, *limits), mask, *limits)
            # Into tensors made once: one that stays behind after every band would split the heap's holes, so that the
            # next band does not fit into the memory of the last.
            result = result or [bands.empty(*pair, mask) for pair in zip(bands.terms.values(), made, strict=True)]
            for whole, ours in zip(bands.of_rows(result, *limits), made, strict=True):
                whole.add_(ours)
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, mask = ctx.saved_tensors
        bands: Bands = ctx.bands
        result = torch.zeros(logits.shape, dtype=bands.dtype, device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            for limits in bands.limits:
                source = bands.source(logits, *limits).requires_grad_()
                with torch.enable_grad():
                    statistics = bands.statistics(source, mask, *limits)
                (gradient,) = torch.autograd.grad(statistics, source, bands.of_rows(gradients, *limits))
                bands.part(result, *limits).add_(gradient)
        return result.to(logits.dtype), None, None
