"""Gaussian filtering of many points in a few dimensions, by the permutohedral lattice (Adams, Baek & Davis 2010)."""

import math
import warnings

import torch
from torch import Tensor


class Lattice:
    """Sums values over all points, weighed by a Gaussian of standard deviation 1 of their distance, up to a factor.

    Each point's values are spread onto the d + 1 corners of its simplex of the lattice, blurred along the lattice's
    d + 1 directions, and read back: the time is linear in the number of points. The factor is the same for all points;
    the result is an approximation, within some per cent of the Gaussian.

    Args:
        features: float `(N, d)`, in units of the standard deviation.
    """

    def __init__(self, features: Tensor) -> None:
        elevated = _elevate(features.double())
        remainder, rank = _closest(elevated)
        weights = _barycentric(elevated - remainder, rank).to(features.dtype)  # (N, d + 1)
        keys = (remainder[:, None, :] + _canonical(rank)).long()  # (N, d + 1 corners, d + 1 coordinates)
        codes = _Codes(keys.reshape(-1, keys.shape[-1]))
        by_code, order = codes.of(keys).flatten().sort()
        self.codes, place, counts = torch.unique_consecutive(by_code, return_inverse=True, return_counts=True)
        corners = torch.empty_like(order).scatter_(0, order, place)
        points, sides = weights.shape
        self.spread = _sparse(counts, order // sides, weights.flatten()[order], points)
        self.read = _sparse(torch.full_like(order[:points], sides), corners, weights.flatten(), len(self.codes))
        self.neighbours = [
            (self._find(codes.step(axis)), self._find(-codes.step(axis))) for axis in range(keys.shape[-1])
        ]

    def filter(self, values: Tensor) -> Tensor:
        """Filters float `(N, C)`; returns the same shape."""
        lattice = self.spread @ values
        nobody = values.new_zeros(1, values.shape[1])  # a corner that no point has
        for before, after in self.neighbours:
            known = torch.cat([lattice, nobody])
            lattice = lattice + 0.5 * (known[before] + known[after])
        return self.read @ lattice

    def _find(self, step: int) -> Tensor:
        """Returns the index of each corner's neighbour by a step of the codes, or the last if no point has it."""
        wanted = self.codes + step
        place = torch.searchsorted(self.codes, wanted).clamp_max(len(self.codes) - 1)
        return torch.where(self.codes[place] == wanted, place, len(self.codes))


def _sparse(counts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """Makes a sparse matrix `(rows, width)` from the number of values of each row, in the order of the rows."""
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*beta state.*")  # of torch; ten times as fast as index_add
        return torch.sparse_csr_tensor(starts, columns, values, (len(counts), width), check_invariants=False)


class _Codes:
    """Numbers for the corners: one digit per coordinate but the last, which follows from the others."""

    def __init__(self, keys: Tensor) -> None:
        spare = keys.shape[-1]  # a step of the blur changes a coordinate by up to d
        self.low = keys[:, :-1].amin(0) - spare
        sides = (keys[:, :-1].amax(0) + spare + 1 - self.low).tolist()
        assert math.prod(sides) < 2**62, "each corner has its own number"
        self.digits = [math.prod(sides[:axis]) for axis in range(len(sides))]

    def of(self, keys: Tensor) -> Tensor:
        digits = torch.tensor(self.digits, device=keys.device)
        return ((keys[..., :-1] - self.low) * digits).sum(-1)

    def step(self, axis: int) -> int:
        """Returns the difference of the numbers of a corner and the next one along a direction of the lattice."""
        size = len(self.digits)
        return sum((size if index == axis else -1) * digit for index, digit in enumerate(self.digits))


def _elevate(features: Tensor) -> Tensor:
    """Turns `(N, d)` into the plane `(N, d + 1)` of coordinates whose sum is 0, so that the blur has deviation 1."""
    size = features.shape[1]
    index = torch.arange(1, size + 1, dtype=features.dtype, device=features.device)
    scaled = features * (size + 1) * math.sqrt(2 / 3) / (index * (index + 1)).sqrt()
    above = scaled.flip(1).cumsum(1).flip(1)  # sums of the coordinates from each on
    zero = features.new_zeros(len(features), 1)
    return torch.cat([above, zero], 1) - torch.cat([zero, index * scaled], 1)


def _closest(elevated: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the corner of remainder 0 of each point's simplex `(N, d + 1)`, and the ranks of the differences."""
    sides = elevated.shape[1]
    remainder = (elevated / sides).round() * sides
    excess = (remainder.sum(1, keepdim=True) / sides).round().long()
    order = (elevated - remainder).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(sides, device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places) + excess
    remainder = remainder + sides * ((rank < 0).to(elevated.dtype) - (rank >= sides).to(elevated.dtype))
    return remainder, rank % sides


def _barycentric(difference: Tensor, rank: Tensor) -> Tensor:
    """Returns the weights `(N, d + 1)` of the corners of remainder 0 to d, which sum to 1."""
    sides = difference.shape[1]
    by_rank = torch.empty_like(difference).scatter_(1, rank, difference / sides)  # largest difference first
    rising = by_rank.flip(1)
    return torch.cat([1 + rising[:, :1] - rising[:, -1:], rising[:, 1:] - rising[:, :-1]], 1)


def _canonical(rank: Tensor) -> Tensor:
    """Returns the steps `(N, d + 1, d + 1)` from the corner of remainder 0 to each corner of the simplex."""
    sides = rank.shape[1]
    corner = torch.arange(sides, device=rank.device)[:, None]
    return corner - sides * (rank[:, None, :] > sides - 1 - corner).long()
