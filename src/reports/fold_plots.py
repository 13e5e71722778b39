"""R2's figures of folds, averages and stages, from what their folders tell alone; tainted figures have their mark."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from src.files import atomic_path
from src.reports.tables import MARK, mark, mark_title, notes
from src.runs.metrics_csv import Row, series

Palette = dict[str, list[int]]  # class name to RGB


def plot_folds(record: dict, path: Path, title: str) -> None:
    """mIoU of every fold as bars, on its own part and on val apart, with mean and standard deviation, as a PNG."""
    kinds = [kind for kind in ("own", "official") if kind in record["summaries"]]
    names = {"own": "each fold's own part", "official": "val"}
    figure, panels = plt.subplots(1, len(kinds), figsize=(5.5 * len(kinds), 4), layout="constrained", squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        there = [each for each in record["folds"] if each[kind] is not None]
        values = [each[kind]["miou"] for each in there]
        bars = axes.bar([f"fold {each['fold']}" for each in there], values, color="C0", alpha=0.8)
        labels = [f"{value:.3f}{mark(each[kind])}" for value, each in zip(values, there, strict=True)]
        axes.bar_label(bars, labels, label_type="center")  # at the top the mean's line would cross it
        summary = record["summaries"][kind]
        axes.axhline(summary["mean"], color="black", linestyle="--", linewidth=1)
        deviation = summary["deviation"]
        if deviation is not None and deviation == deviation:
            axes.axhspan(summary["mean"] - deviation, summary["mean"] + deviation, color="black", alpha=0.1)
        sign = max(mark(each[kind]) for each in there)
        axes.set(title=f"{names[kind]}: mean {summary['mean']:.3f}{sign}", ylabel="mIoU", ylim=(0, 1))
    told = notes(each[kind] for kind in kinds for each in record["folds"] if each[kind] is not None)
    _save(figure, path, title, told)


def plot_averages(records: Sequence[tuple[str, dict]], path: Path, title: str) -> None:
    """Best run, means, soup and averaged probabilities of each stage as bars beside each other, as a PNG.

    Args:
        records: a name and an `aggregate.json` each; figures are on val, or where there is none on what decided.
    """
    column = "selection" if records[0][1]["candidates"][0]["official"] is None else "official"
    names = list(dict.fromkeys(each["name"] for _, record in records for each in record["candidates"]))
    width = 0.8 / len(names)
    figure, axes = plt.subplots(figsize=(max(6, 1.1 * len(names) * len(records)), 4.5), layout="constrained")
    told = []
    for place, name in enumerate(names):
        there = [
            (stage, each[column])
            for stage, (_, record) in enumerate(records)
            for each in record["candidates"]
            if each["name"] == name
        ]
        values = [evaluation["miou"] for _, evaluation in there]
        bars = axes.bar([stage + (place + 0.5) * width - 0.4 for stage, _ in there], values, width, label=name)
        labels = [f"{value:.3f}{mark(each)}" for value, (_, each) in zip(values, there, strict=True)]
        axes.bar_label(bars, labels, fontsize=7, rotation=90, padding=2)
        told += [evaluation for _, evaluation in there]
    axes.set_xticks(range(len(records)), [name for name, _ in records])
    split = records[0][1]["candidates"][0][column]["protocol"]["split"]
    axes.set(ylabel=f"mIoU on {split}", ylim=(0, 1))
    axes.legend(fontsize="small", ncols=3, loc="upper center")
    _save(figure, path, title, notes(told))


def plot_history(stages: Sequence[tuple[str, Sequence[tuple[list[Row], dict]]]], path: Path, title: str) -> None:
    """Loss and mIoU of all folds by epoch, each on its own part, stage after stage, as a PNG.

    Args:
        stages: a name, and of each fold in the order of their numbers its logged figures and its own evaluation.
    """
    figure, (loss, miou) = plt.subplots(1, 2, figsize=(14, 4.5), layout="constrained")
    before = 0
    for name, folds in stages:
        for fold, (rows, _) in enumerate(folds):
            for axes, key, style in ((loss, "train/loss_epoch", ":"), (loss, "val/loss", "-"), (miou, "val/miou", "-")):
                x, y = series(rows, key, by="epoch")
                dots = {"marker": ".", "linestyle": style, "color": f"C{fold}", "linewidth": 1}
                label = f"fold {fold}" if before == 0 and style == "-" else None
                axes.plot([before + epoch + 1 for epoch in x], y, label=label, **dots)
        sign = max(mark(own) for _, own in folds)
        for axes in (loss, miou):
            axes.axvline(before + 0.5, color="black", linewidth=0.8, alpha=0.5)
            told = f"{name}{sign if axes is miou else ''}"
            axes.text(before + 0.6, 0.98, told, transform=axes.get_xaxis_transform(), fontsize=8, va="top")
        before += 1 + max(row["epoch"] for rows, _ in folds for row in rows)
    loss.set(title="loss: training dotted, each fold's own part solid", xlabel="epoch", ylim=(0, None))
    miou.set(title="mIoU on each fold's own part", xlabel="epoch", ylim=(0, 1))
    for axes in (loss, miou):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    _save(figure, path, title, notes(own for _, folds in stages for _, own in folds))


def plot_progress(stages: Sequence[tuple[str, dict]], palette: Palette, path: Path, title: str) -> None:
    """IoU of each class from stage to stage, in the classes' colours, and their mean, as a PNG."""
    names, evaluations = [f"{name}{mark(each)}" for name, each in stages], [each for _, each in stages]
    figure, axes = plt.subplots(figsize=(max(7, 1.5 * len(names)), 5), layout="constrained")
    for name, colour in palette.items():
        values = [_number(evaluation["iou"][name]) for evaluation in evaluations]
        axes.plot(names, values, marker=".", linewidth=1, color=np.array(colour) / 255, label=name)
    means = [evaluation["miou"] for evaluation in evaluations]
    axes.plot(names, means, marker="o", linewidth=2.5, color="black", label="mean")
    axes.set(ylabel="IoU", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path, title, notes(evaluations))


def plot_confusion(evaluation: dict, path: Path, title: str) -> None:
    """The confusion matrix as counts (colours by their logarithm) and as shares of the truth, as a PNG."""
    counts, names = np.array(evaluation["matrix"], dtype=np.float64), list(evaluation["iou"])
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = max(4.5, 0.45 * len(names) + 2)
    figure, panels = plt.subplots(1, 2, figsize=(2 * side, side), layout="constrained")
    for axes, values, cells, what in (
        (panels[0], np.log10(counts + 1), [[_short(value) for value in row] for row in counts], "pixels"),
        (panels[1], shares, [[_share(value) for value in row] for row in shares], "share of the truth, %"),
    ):
        axes.imshow(values, cmap="Blues", vmin=0)
        middle = np.nanmax(values) / 2
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if values[row, column] > middle else "black"
            place = {"ha": "center", "va": "center", "in_layout": False}
            axes.text(column, row, cells[row][column], fontsize=6, color=colour, **place)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(title=what, xlabel="prediction", ylabel="truth")
    _save(figure, path, mark_title(title, evaluation), [])


def plot_shares(evaluation: dict, palette: Palette, path: Path, title: str) -> None:
    """IoU of each class against its share of the pixels, with both correlations and the fit, as a PNG."""
    points = shares_and_ious(evaluation)
    share, iou = (np.array([point[place] for point in points.values()]) for place in (0, 1))
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for name, (x, y) in points.items():
        axes.plot(x, y, "o", color=np.array(palette[name]) / 255, markeredgecolor="black")
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    told = f"{len(points)} classes"
    if len(points) > 2:
        slope, start = np.polyfit(np.log10(share), iou, 1)
        ends = np.array([share.min(), share.max()])
        axes.plot(ends, start + slope * np.log10(ends), "--", color="black", linewidth=1)
        pearson, spearman = correlations(np.log10(share), iou)
        told = f"Pearson (of the logarithm) {pearson:.2f}, Spearman {spearman:.2f}, {slope:.2f} IoU a decade"
    axes.margins(x=0.12)  # room for the names
    axes.set(xscale="log", xlabel="share of the labelled pixels", ylabel="IoU", ylim=(0, 1), title=told)
    axes.grid(alpha=0.3)
    _save(figure, path, mark_title(title, evaluation), [])


def shares_and_ious(evaluation: dict) -> dict[str, tuple[float, float]]:
    """Pixel share and IoU of the classes that the truth has."""
    pairs = {name: (_number(evaluation["share"][name]), _number(iou)) for name, iou in evaluation["iou"].items()}
    return {name: (share, iou) for name, (share, iou) in pairs.items() if share > 0 and iou == iou}


def correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's (of ranks, ties at their mean) correlation of `(N,)` each; NaN where one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(x, y)[0, 1]), float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    below, equal = (values[:, None] > values).sum(1), (values[:, None] == values).sum(1)
    return below + (equal + 1) / 2


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _short(count: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{sign}"
    return f"{count:.0f}"


def _share(value: float) -> str:
    return "" if value != value else f"{100 * value:.0f}"


def _save(figure: Figure, path: Path, title: str, told: Sequence[str]) -> None:
    figure.suptitle("\n".join([title, *told]), fontsize=10)
    assert all(line.startswith(MARK) for line in told)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
