"""Figures of a run, from its run folder alone."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from src.callbacks.csv_logger import read_metrics, series
from src.files import atomic_path


def plot_curves(metrics: Path, path: Path, title: str) -> None:
    """Loss, mIoU and learning rates by step of a metrics.csv, as a PNG."""
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
    for key in keys:
        if key.startswith("lr/"):
            rate.plot(*series(rows, key), label=key.removeprefix("lr/"), linewidth=1)
    rate.set(title="learning rate", xlabel="step", ylim=(0, None))
    if rate.lines:
        rate.legend(fontsize="small")
    for axes in (loss, miou, rate):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def plot_classes(evaluation: dict, palette: dict[str, list[int]], path: Path, title: str) -> None:
    """IoU of each class as bars in the classes' colours, with the mean, as a PNG."""
    iou = {name: value for name, value in evaluation["iou"].items() if value is not None and value == value}
    figure, axes = plt.subplots(figsize=(max(5, 0.6 * len(iou) + 2), 4), layout="constrained")
    colours = [np.array(palette[name]) / 255 for name in iou]
    bars = axes.bar(list(iou), list(iou.values()), color=colours, edgecolor="black", linewidth=0.6)
    axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.axhline(evaluation["miou"], color="black", linestyle="--", linewidth=1)
    axes.set(ylim=(0, 1), ylabel="IoU", title=f"{title}\nmIoU {evaluation['miou']:.4f}")
    axes.tick_params(axis="x", rotation=45)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
