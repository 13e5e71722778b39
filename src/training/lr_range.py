"""What a learning rate range test says (Smith 2017; report R4's Figure 2)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.errors import UserError
from src.files import atomic_path

BELOW = 10  # a training bears for long a tenth of what it bears for a step
MIN_STEPS = 20


@dataclass(frozen=True)
class Point:
    """One optimiser step: base learning rate, mean loss and mIoU of the batches it was made of."""

    lr: float
    loss: float
    miou: float


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the one where the smoothed loss is lowest, and whether the test saw the loss rise again."""

    lr: float
    lowest: float
    has_turned: bool

    def __str__(self) -> str:
        text = (
            f"suggestion: optimizer.lr={self.lr:.1e}, a tenth of {self.lowest:.1e}, at which the smoothed training "
            "loss is lowest"
        )
        if not self.has_turned:
            text += "\nnote: the loss never rose again; raise lr_range.highest and see where it does"
        return text


def check_range(lowest: float, highest: float, steps: int) -> None:
    """UserError where a range cannot be tested."""
    if not 0 < lowest < highest:
        raise UserError(f"lr_range.lowest={lowest}, lr_range.highest={highest}: must be 0 < lowest < highest")
    if not isinstance(steps, int) or steps < MIN_STEPS:
        raise UserError(f"lr_range.steps={steps}: must be a whole number, at least {MIN_STEPS}")


def suggest(points: list[Point]) -> Suggestion:
    """A tenth of the learning rate at which the smoothed loss is lowest.

    Raises:
        UserError: the loss is lowest at the start, or was not finite from the first steps on.
    """
    finite = [point for point in points if np.isfinite(point.loss)]
    if len(finite) < 10:
        raise UserError(
            f"find_lr=true: the loss was finite for {len(finite)} steps only; lower lr_range.lowest={points[0].lr:g}"
        )
    losses = smooth([point.loss for point in finite])
    lowest = int(np.argmin(losses))
    if lowest == 0:
        raise UserError(
            f"find_lr=true: the loss does not fall from {points[0].lr:g} on; lower lr_range.lowest, or raise "
            "lr_range.steps where batches differ much"
        )
    has_turned = lowest < len(finite) - 1 or len(finite) < len(points)
    return Suggestion(finite[lowest].lr / BELOW, finite[lowest].lr, has_turned)


def smooth(values: list[float]) -> np.ndarray:
    """Weighted means of neighbours, by a Gaussian of a fiftieth of the test; NaN and infinity left out.

    Unlike an exponential mean it does not lag: that would put the minimum at too high a rate.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    places = np.arange(len(values))
    kernel = np.exp(-0.5 * ((places[:, None] - places) / max(1.0, len(values) / 50)) ** 2) * finite
    with np.errstate(invalid="ignore"):  # a stretch without any finite value has none
        return kernel @ np.where(finite, values, 0.0) / kernel.sum(axis=1)


def write_range(path: Path, points: list[Point]) -> None:
    """Columns lr, loss, miou; a row a step."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lr", "loss", "miou"])
        writer.writerows((point.lr, point.loss, point.miou) for point in points)
