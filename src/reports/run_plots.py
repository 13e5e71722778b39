"""Plots of one run, from the figures that it logged."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from src.reports.plotting import Palette, plot_classes_and_mean, save_figure, whole_ticks
from src.runs.metrics_csv import epochs, read_metrics, series


def plot_curves(metrics: Path, path: Path, title: str) -> None:
    """Draws loss, mIoU and learning rates by step of a metrics.csv as a PNG."""
    rows = read_metrics(metrics)
    keys = sorted({key for row in rows for key in row})
    figure, (loss, miou, rate) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for key, label in (("train/loss", "train, step"), ("train/loss_epoch", "train, epoch"), ("val/loss", "val")):
        loss.plot(*series(rows, key), label=label, linewidth=1, alpha=0.4 if "step" in label else 1)
    loss.set(title="loss", xlabel="step")
    loss.legend()
    x, y = series(rows, "val/miou")
    miou.plot(x, y, marker=".", label="val mIoU")
    if y:
        best = int(np.argmax(y))
        miou.annotate(f"{y[best]:.3f}", (x[best], y[best]), textcoords="offset points", xytext=(0, 6), ha="center")
    miou.set(title="mIoU on val", xlabel="step", ylim=(0, 1))
    _plot_rates(rate, rows, [key for key in keys if key.startswith("lr/")])
    for axes in (loss, miou, rate):
        axes.grid(alpha=0.3)
    save_figure(figure, path, title)


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


def plot_class_curves(metrics: Path, palette: Palette, path: Path, title: str) -> None:
    """Draws the IoU of each class on val by epoch of a metrics.csv, and their mean, as a PNG."""
    rows = read_metrics(metrics)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    classes = {name: epochs(rows, f"val/iou/{name}") for name in palette}
    plot_classes_and_mean(axes, classes, epochs(rows, "val/miou"), palette)
    axes.set(title=title, xlabel="epoch")
    whole_ticks(axes)
    save_figure(figure, path)
