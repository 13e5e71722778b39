"""The result of a learning rate range test (Smith 2017; report R4's Figure 2): its points, its suggestion, its plot."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.errors import UserError, whole
from src.files import atomic_path

BELOW = 10  # a whole training withstands a tenth of the rate that one step withstands
MIN_STEPS = 20


@dataclass(frozen=True)
class Point:
    """One optimiser step: base learning rate, mean loss and mIoU of the batches it was made of."""

    lr: float
    loss: float
    miou: float


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the one at which the smoothed loss is lowest, and whether the test saw the loss rise again."""

    lr: float
    lowest: float
    has_turned: bool

    def __str__(self) -> str:
        note = "" if self.has_turned else "\nnote: the loss never rose again; raise lr_range.highest until it does"
        return (
            f"suggestion: optimizer.lr={self.lr:.1e}, a tenth of {self.lowest:.1e}, at which the smoothed training "
            f"loss is lowest{note}"
        )


def check_range(lowest: float, highest: float, steps: int) -> None:
    """Raises UserError if a range cannot be tested."""
    if not 0 < lowest < highest:
        raise UserError(f"lr_range.lowest={lowest}, lr_range.highest={highest}: must be 0 < lowest < highest")
    whole("lr_range.steps", steps, MIN_STEPS)


def suggest(points: list[Point]) -> Suggestion:
    """Returns a tenth of the learning rate at which the smoothed loss is lowest.

    Raises:
        UserError: the loss is lowest at the start, or was not finite from the first steps on.
    """
    finite = [point for point in points if np.isfinite(point.loss)]
    if len(finite) < 10:
        raise UserError(f"the loss was finite for only {len(finite)} steps; lower lr_range.lowest={points[0].lr:g}")
    losses = smooth([point.loss for point in finite])
    lowest = int(np.argmin(losses))
    if lowest == 0:
        raise UserError(
            f"the loss does not fall from a learning rate of {points[0].lr:g} on; lower lr_range.lowest, or raise "
            "lr_range.steps if batches differ much"
        )
    has_turned = lowest < len(finite) - 1 or len(finite) < len(points)
    return Suggestion(finite[lowest].lr / BELOW, finite[lowest].lr, has_turned)


def smooth(values: list[float]) -> np.ndarray:
    """Averages neighbours by a Gaussian of a fiftieth of the test, float `(N,)`; NaN and infinity are left out.

    Unlike an exponential mean it does not lag: that would put the minimum at too high a rate.
    """
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    steps = np.arange(len(array))
    kernel = np.exp(-0.5 * ((steps[:, None] - steps) / max(1.0, len(array) / 50)) ** 2) * finite
    with np.errstate(invalid="ignore"):  # NaN where no neighbour is finite
        return kernel @ np.where(finite, array, 0.0) / kernel.sum(axis=1)


def write_range(path: Path, points: list[Point]) -> None:
    """Writes columns lr, loss, miou; one row per step."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lr", "loss", "miou"])
        writer.writerows((point.lr, point.loss, point.miou) for point in points)


def plot_range(points: list[Point], suggestion: Suggestion, path: Path, title: str) -> None:
    """Plots loss and mIoU of a range test's batches against the learning rate, and the suggestion, as a PNG."""
    # Here, because commands import this module before their work begins.
    from src.reports.plotting import plain_log_ticks, plt, save_figure

    rates, losses = [point.lr for point in points], [point.loss for point in points]
    figure, panels = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for axes, name, values in ((panels[0], "loss", losses), (panels[1], "mIoU", [point.miou for point in points])):
        axes.plot(rates, values, color="C0", alpha=0.3, linewidth=1, label="the batches of a step")
        axes.plot(rates, smooth(values), color="C0", linewidth=2, label="smoothed")
        axes.axvline(suggestion.lr, color="C3", linestyle="--", label=f"suggestion {suggestion.lr:.1e}")
        axes.set(title=f"training {name}", xlabel="learning rate (optimizer.lr)", xscale="log")
        plain_log_ticks(axes.xaxis)
        axes.grid(alpha=0.3)
    usual = smooth(losses)
    lowest = usual[rates.index(suggestion.lowest)]
    panels[0].plot(suggestion.lowest, lowest, "o", color="C3", label=f"lowest at {suggestion.lowest:.1e}")
    # The loss to which the test diverged would press the rest of the curve flat.
    panels[0].set_ylim(0.9 * np.nanmin(usual), usual[0] + (usual[0] - np.nanmin(usual)))
    panels[1].set_ylim(0, None)
    panels[0].legend(fontsize="small")
    figure.suptitle(title)
    save_figure(figure, path)
