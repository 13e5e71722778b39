"""Plots of one evaluation: IoU per class, confusion matrix, IoU against pixel share. Tainted figures are marked."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from src.reports.plotting import Palette, draw_legend, name_points, plain_log_ticks, rgb, save_figure
from src.runs.details import Details
from src.runs.marks import mark, notes
from src.runs.records import Evaluation

MOST_NUMBERS = 40  # classes up to which numbers stand in the cells of a confusion matrix
LONGEST_NAME = 40  # characters of a class at a matrix
LONGEST = 20.0  # inches of a matrix's side or of half the bars' width: more pixels take gigabytes


def plot_classes(evaluation: Evaluation, palette: Palette, path: Path, title: str) -> None:
    """Draws the IoU of each class as a bar, with the mean, as a PNG."""
    iou = {name: value for name, value in evaluation.iou.items() if not math.isnan(value)}
    figure, axes = plt.subplots(figsize=(min(max(5, 0.6 * len(iou) + 2), 2 * LONGEST), 4), layout="constrained")
    colours = [rgb(palette[name]) for name in iou]
    # The line is behind bars and numbers, which it would strike through.
    axes.axhline(evaluation.miou, color="black", linestyle="--", linewidth=1, zorder=0)
    bars = axes.bar(list(iou), list(iou.values()), color=colours, edgecolor="black", linewidth=0.6)
    small = _font_size(2 * LONGEST, len(iou))
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.bar_label(bars, fmt="%.2f", fontsize=min(8, small / 2), padding=2, bbox=white)  # four characters side by side
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 8}
    axes.annotate(f"mean\n{evaluation.miou:.2f}{mark(evaluation)}", (1, evaluation.miou), (4, 0), **beside)
    axes.set(ylim=(0, 1.05), ylabel="IoU")
    axes.tick_params(axis="x", rotation=45 if len(iou) <= MOST_NUMBERS else 90, labelsize=min(10, small))
    save_figure(figure, path, f"{title}: mIoU {evaluation.miou:.4f}{mark(evaluation)}", notes([evaluation]))


def plot_confusion(evaluation: Evaluation, path: Path, title: str) -> None:
    """Draws the confusion matrix as counts, coloured by their logarithm, and as shares of the truth, as a PNG.

    Numbers stand in the cells up to `MOST_NUMBERS` classes.
    """
    counts, names = np.array(evaluation.matrix, dtype=np.float64), list(evaluation.iou)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    percents = [["" if math.isnan(value) else f"{100 * value:.0f}" for value in row] for row in shares]
    ticks = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..." for name in names]
    side = min(max(4.5, 0.45 * len(names) + 2), LONGEST)
    small = min(7, _font_size(LONGEST, len(names)))
    margin = 0.65 * small * max(map(len, ticks)) / 72  # inches of the longest name, which else takes the axis' label's
    size = (2 * (side + margin + 0.8), side + margin)
    figure, panels = plt.subplots(1, 2, figsize=size, layout="constrained")
    for axes, values, cells, name in (
        (panels[0], np.log10(counts + 1), [[_short(value) for value in row] for row in counts], "pixels"),
        (panels[1], 100 * shares, percents, "share of the truth"),
    ):
        top = 100 if axes is panels[1] else max(values.max(), 1)
        # With square cells the layout cuts off the labels.
        picture = axes.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
        middle = top / 2
        bar = figure.colorbar(picture, ax=axes, pad=0.01, fraction=0.05)
        if axes is panels[0]:
            marks = [0, *(10**power for power in range(int(top) + 1))]
            bar.set_ticks([math.log10(each + 1) for each in marks], labels=[_short(each) for each in marks])
        bar.set_label("pixels, logarithmic scale" if axes is panels[0] else "% of the truth's pixels")
        for row, column in np.ndindex(*counts.shape) if len(names) <= MOST_NUMBERS else ():
            colour = "white" if values[row, column] > middle else "black"
            style = {"fontsize": 6, "ha": "center", "va": "center", "in_layout": False}
            axes.text(column, row, cells[row][column], color=colour, **style)
        axes.set_xticks(range(len(names)), ticks, rotation=90, fontsize=small)
        axes.set_yticks(range(len(names)), ticks, fontsize=small)
        axes.set(title=name, xlabel="prediction", ylabel="truth")
    save_figure(figure, path, f"{title}{mark(evaluation)}", notes([evaluation]))


def plot_shares(evaluation: Evaluation, palette: Palette, path: Path, title: str) -> None:
    """Draws the IoU of each class against its share of the pixels, with both correlations and the fit, as a PNG."""
    points = shares_and_ious(evaluation)
    share, iou = (np.array([point[axis] for point in points.values()]) for axis in (0, 1))
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for name, (x, y) in points.items():
        axes.scatter(x, y, color=rgb(palette[name]), edgecolors="black", zorder=3)
    if len(points) > 2:
        slope, start = np.polyfit(np.log10(share), iou, 1)
        ends = np.array([share.min(), share.max()])
        (line,) = axes.plot(ends, start + slope * np.log10(ends), "--", color="black", linewidth=1)
        pearson, spearman = correlations(np.log10(share), iou)
        fit = f"fit: {slope:+.2f} IoU for ten times the pixels"
        draw_legend(axes, [line], [f"{fit}\nPearson {pearson:.2f} (of the logarithm), Spearman {spearman:.2f}"])
    axes.margins(x=0.12)  # room for the names
    axes.set(xscale="log", xlabel="share of the labelled pixels", ylabel="IoU", ylim=(0, 1.05))
    plain_log_ticks(axes.xaxis)
    axes.grid(alpha=0.3)
    name_points(axes, [(name, x, y) for name, (x, y) in points.items()], 8)
    save_figure(figure, path, f"{title}{mark(evaluation)}", notes([evaluation]))


def plot_reliability(details: Details, path: Path, title: str, lines: Sequence[str] = ()) -> None:
    """Draws the reliability diagram: accuracy by confidence, above the share of the pixels of each bin, as a PNG."""
    bins, width = details.calibration, 1 / len(details.calibration)
    total = max(1, sum(each.pixels for each in bins))
    places = [(index + 0.5) * width for index in range(len(bins))]
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(5, 5.5), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    known = [(place, each) for place, each in zip(places, bins, strict=True) if each.pixels]
    upper.bar([place for place, _ in known], [each.accuracy for _, each in known], width, edgecolor="black", alpha=0.6)
    upper.plot([each.confidence for _, each in known], [each.accuracy for _, each in known], "o-", color="black")
    upper.plot([0, 1], [0, 1], "--", color="grey", label="as accurate as confident")
    upper.legend(fontsize="small", loc="upper left")
    ece = f"expected calibration error {details.ece:.4f}, {len(bins)} bins"
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=ece)
    lower.bar(places, [each.pixels / total for each in bins], width, edgecolor="black", alpha=0.6)
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="share of pixels")
    save_figure(figure, path, title, lines)


def shares_and_ious(evaluation: Evaluation) -> dict[str, tuple[float, float]]:
    """Returns pixel share and IoU of the classes that the truth has."""
    pairs = {name: (evaluation.share[name], iou) for name, iou in evaluation.iou.items()}
    return {name: (share, iou) for name, (share, iou) in pairs.items() if share > 0 and not math.isnan(iou)}


def correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns Pearson's and Spearman's correlation of two `(N,)`; NaN if one of them is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # of which scipy would warn
        return math.nan, math.nan
    pearson: Any = stats.pearsonr(x, y)
    spearman: Any = stats.spearmanr(x, y)
    return float(pearson.statistic), float(spearman.statistic)


def _font_size(inches: float, names: int) -> float:
    """Returns the size in points at which so many names stand side by side in about 80 % of a length."""
    return max(1.0, 0.8 * inches * 72 / max(names, 1) / 1.2)


def _short(count: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{sign}"
    return f"{count:.0f}"
