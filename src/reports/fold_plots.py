"""Plots of folds, averages and stages, from the records in their folders. Tainted figures are marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from src.reports.plotting import LINES, Palette, plot_classes_and_mean, save_figure, whole_ticks
from src.runs.folder import RunFolder
from src.runs.marks import mark, notes
from src.runs.metrics_csv import Row, epochs, read_metrics
from src.runs.records import KINDS, AverageRecord, Evaluation, FoldsRecord

TITLES = {"own": "each fold's own part", "official": "val"}


@dataclass(frozen=True)
class History:
    """The trainings of one stage."""

    name: str  # of the stage
    # The logged figures of each fold and its evaluation on its own part, in the order of the folds' numbers.
    folds: Sequence[tuple[list[Row], Evaluation]]


def read_history(folder: Path, record: FoldsRecord) -> History:
    """Reads the logged figures of a cross-validation, whose folder may have been moved since it was recorded."""
    done = [(RunFolder(folder / Path(each.run).name), each.own) for each in record.folds if each.own is not None]
    return History(folder.name, [(read_metrics(run.metrics), own) for run, own in done])


def plot_folds(record: FoldsRecord, path: Path, title: str) -> None:
    """Draws the mIoU of every fold on its own part and on val, with mean and standard deviation, as a PNG."""
    kinds = [kind for kind in KINDS if kind in record.summaries]
    figure, panels = plt.subplots(1, len(kinds), figsize=(5.5 * len(kinds), 4), layout="constrained", squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        found = {fold.fold: getattr(fold, kind) for fold in record.folds}
        done = {f"fold {fold}": evaluation for fold, evaluation in found.items() if evaluation is not None}
        bars = axes.bar(list(done), [each.miou for each in done.values()], color=LINES[0], alpha=0.8)
        labels = [f"{each.miou:.3f}{mark(each)}" for each in done.values()]
        axes.bar_label(bars, labels, label_type="center")  # at the top the line of the mean would cross it
        mean, deviation = record.summaries[kind].mean, record.summaries[kind].deviation
        axes.axhline(mean, color="black", linestyle="--", linewidth=1)
        if not math.isnan(deviation):
            axes.axhspan(mean - deviation, mean + deviation, color="black", alpha=0.1)
        axes.set(title=f"{TITLES[kind]}: mean {mean:.3f}{mark(*done.values())}", ylabel="mIoU", ylim=(0, 1))
    save_figure(figure, path, title, notes(each for kind in kinds for each in record.evaluations(kind)))


def plot_averages(records: Sequence[tuple[str, AverageRecord]], path: Path, title: str) -> None:
    """Draws the averages of each stage (its name first) beside each other: on val, or on what decided without val."""
    stages = [{each.name: each.reported for each in record.candidates} for _, record in records]
    names = list(dict.fromkeys(name for reported in stages for name in reported))
    width = 0.8 / len(names)
    figure, axes = plt.subplots(figsize=(max(6, 1.1 * len(names) * len(records)), 4.5), layout="constrained")
    shown: list[Evaluation] = []
    for index, name in enumerate(names):
        found = {stage: reported[name] for stage, reported in enumerate(stages) if name in reported}
        x = [stage + (index + 0.5) * width - 0.4 for stage in found]
        bars = axes.bar(x, [each.miou for each in found.values()], width, label=name)
        labels = [f"{each.miou:.3f}{mark(each)}" for each in found.values()]
        axes.bar_label(bars, labels, fontsize=7, rotation=90, padding=2)
        shown += found.values()
    axes.set_xticks(range(len(records)), [name for name, _ in records])
    axes.set(ylabel=f"mIoU on {records[0][1].candidates[0].reported.protocol.split}", ylim=(0, 1))
    axes.legend(fontsize="small", ncols=3, loc="upper center")
    save_figure(figure, path, title, notes(shown))


def plot_history(stages: Sequence[History], path: Path, title: str) -> None:
    """Draws loss and mIoU of all folds by epoch, each on its own part, stage after stage, as a PNG."""
    figure, (loss, miou) = plt.subplots(1, 2, figsize=(14, 4.5), layout="constrained")
    before = 0
    for stage in stages:
        for fold, (rows, _) in enumerate(stage.folds):
            for axes, key, style in ((loss, "train/loss_epoch", ":"), (loss, "val/loss", "-"), (miou, "val/miou", "-")):
                x, y = epochs(rows, key)
                dots = {"marker": ".", "linestyle": style, "color": LINES[fold % len(LINES)], "linewidth": 1}
                label = f"fold {fold}" if before == 0 and style == "-" else None
                axes.plot([before + epoch for epoch in x], y, label=label, **dots)
        sign = mark(*(own for _, own in stage.folds))
        for axes, text in ((loss, stage.name), (miou, f"{stage.name}{sign}")):
            axes.axvline(before + 0.5, color="black", linewidth=0.8, alpha=0.5)
            axes.text(before + 0.6, 1.01, text, transform=axes.get_xaxis_transform(), fontsize=8, va="bottom")
        before += 1 + max(row["epoch"] for rows, _ in stage.folds for row in rows)
    loss.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    miou.set(xlabel="epoch", ylabel="mIoU on each fold's own part", ylim=(0, 1))
    for axes in (loss, miou):
        whole_ticks(axes)
        axes.grid(alpha=0.3)
    kinds = [Line2D([], [], color="black", linestyle=style, linewidth=1) for style in (":", "-")]
    loss.add_artist(loss.legend(kinds, ["training", "own part"], fontsize="small", loc="lower left"))
    miou.legend(fontsize="small", loc="lower right")
    save_figure(figure, path, title, notes(own for stage in stages for _, own in stage.folds))


def plot_progress(stages: Sequence[tuple[str, Evaluation]], palette: Palette, path: Path, title: str) -> None:
    """Draws the IoU of each class, and their mean, from stage to stage: name and winner's evaluation of each."""
    names, evaluations = [f"{name}{mark(each)}" for name, each in stages], [each for _, each in stages]
    figure, axes = plt.subplots(figsize=(max(7, 1.5 * len(names)), 5), layout="constrained")
    classes = {name: (names, [evaluation.iou[name] for evaluation in evaluations]) for name in palette}
    plot_classes_and_mean(axes, classes, (names, [evaluation.miou for evaluation in evaluations]), palette)
    save_figure(figure, path, title, notes(evaluations))
