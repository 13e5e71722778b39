"""Plots of one run, from the figures that it logged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from src.reports.plotting import LINES, Palette, name_points, plot_classes_and_mean, save_figure, whole_ticks
from src.runs.metrics_csv import Row, epochs, read_metrics, series


def plot_curves(metrics: Path, path: Path, title: str, notes: Sequence[str] = ()) -> None:
    """Draws loss, mIoU and learning rates by step of a metrics.csv as a PNG, and names the best epoch."""
    rows = read_metrics(metrics)
    keys = sorted({key for row in rows for key in row})
    figure, (loss, miou, rate) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for index, (key, label) in enumerate(
        (("train/loss", "train, step"), ("train/loss_epoch", "train, epoch"), ("val/loss", "val"))
    ):
        style = {"color": LINES[index], "linewidth": 1.2, "alpha": 0.4 if "step" in label else 1}
        loss.plot(*series(rows, key), label=label, **style)
    loss.set(title="loss", xlabel="step")
    miou.plot(*series(rows, "val/miou"), marker=".", color=LINES[0])
    if best := best_point(rows):
        for axes in (loss, miou):
            axes.axvline(best.step, color="black", linestyle=":", linewidth=1)
    loss.legend()
    miou.set(title="mIoU on val", xlabel="step", ylim=(0, 1))
    _plot_rates(rate, rows, [key for key in keys if key.startswith("lr/")])
    for axes in (loss, miou, rate):
        axes.grid(alpha=0.3)
    if best:
        name_points(miou, [(f"best {best.miou:.3f} at epoch {best.epoch}", best.step, best.miou)], 9)
    save_figure(figure, path, title, notes)


@dataclass(frozen=True)
class BestPoint:
    """The validation with the highest mIoU, the first of equal ones: its checkpoint is kept as the best."""

    step: int
    epoch: int  # counted from 1
    miou: float


def best_point(rows: list[Row]) -> BestPoint | None:
    """Finds the best validation among the logged figures; None before the first."""
    found = [row for row in rows if not math.isnan(row.get("val/miou", math.nan))]
    if not found:
        return None
    best = max(found, key=lambda row: row["val/miou"])
    return BestPoint(int(best["step"]), int(best["epoch"]) + 1, best["val/miou"])


def _plot_rates(axes: Axes, rows: list[dict[str, float]], keys: list[str]) -> None:
    """Draws one line per parameter group; layers of a backbone go from pale to dark, with the first and last named."""
    layers = [key for key in keys if key.startswith("lr/backbone/layer_")]
    for key in keys:
        style: dict = {"label": key.removeprefix("lr/"), "color": "C1" if key == "lr/head" else "C0"}
        if key == "lr/head" and len(keys) > 1:
            style["linestyle"] = "--"  # so that both of two groups with one rate are seen
        if key in layers:
            style["color"] = plt.cm.Blues(0.3 + 0.7 * layers.index(key) / len(layers))
            if key not in (layers[0], layers[-1]):
                del style["label"]
        axes.plot(*series(rows, key), linewidth=1, **style)
    axes.set(title="learning rate", xlabel="step", ylim=(0, None))
    if axes.lines:
        axes.legend(fontsize="small")


def plot_class_curves(metrics: Path, palette: Palette, path: Path, title: str, notes: Sequence[str] = ()) -> None:
    """Draws the IoU of each class on val by epoch of a metrics.csv, and their mean, as a PNG; names the best epoch."""
    rows = read_metrics(metrics)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    classes = {name: epochs(rows, f"val/iou/{name}") for name in palette}
    plot_classes_and_mean(axes, classes, epochs(rows, "val/miou"), palette)
    axes.set(xlabel="epoch")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, high - 1), max(high, low + 1))  # of one validation matplotlib shows tenths of an epoch
    whole_ticks(axes)
    if best := best_point(rows):
        axes.axvline(best.epoch, color="black", linestyle=":", linewidth=1, zorder=0)
        above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(f"best: epoch {best.epoch}", (best.epoch, 1), (0, 3), ha="center", **above)
    save_figure(figure, path, title, notes)
