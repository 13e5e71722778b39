"""The outcome of a training in a few lines: its best epoch, its worst classes, and settings to try next."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.reports.tables import percent
from src.runs.marks import mark
from src.runs.metrics_csv import Row, epochs
from src.runs.records import Evaluation

NUM_WORST = 3
RISING = 0.01  # of mIoU in the last fifth of the epochs: the training was not at its end
FALLEN = 0.02  # of mIoU from the best epoch to the last
WORSE = 1.2  # times its lowest, that val/loss ends at: overfitting
RARE = 0.01  # share of the labelled pixels
WEAK = 0.5  # times the mIoU


@dataclass(frozen=True)
class WeakClass:
    """A class of low IoU, and the class that most of its missed pixels are taken for."""

    name: str
    iou: float
    share: float  # of the labelled pixels
    other: str | None  # None if no pixel is missed
    taken: float  # share of its pixels that are taken for the other class

    def __str__(self) -> str:
        taken = f", {percent(self.taken)} taken for {self.other}" if self.other else ""
        return f"{self.name} {percent(self.iou)} ({percent(self.share)} of the pixels{taken})"


@dataclass(frozen=True)
class Outcome:
    """The facts of a finished training that the next one can be chosen by."""

    best_epoch: int  # counted from 1
    num_epochs: int  # that were trained
    best: float  # mIoU of the validation
    last: float  # the same after the last epoch; NaN if that was not validated
    sign: str  # the mark of a figure on images that the weights have seen
    worst: tuple[WeakClass, ...]  # the worst first
    tries: tuple[str, ...]

    def __str__(self) -> str:
        last = "" if math.isnan(self.last) else f"; after the last {percent(self.last)}{self.sign}"
        lines = [f"best epoch: {self.best_epoch} of {self.num_epochs}, mIoU {percent(self.best)}{self.sign}{last}"]
        lines += [f"worst classes: {'; '.join(map(str, self.worst))}"] if self.worst else []
        return "\n".join([*lines, *(f"try: {text}" for text in self.tries)])


def look_back(evaluation: Evaluation, rows: Sequence[Row], config: Mapping[str, Any], start: str) -> Outcome:
    """Sums up a finished training.

    Args:
        evaluation: that of its best checkpoint.
        rows: of its metrics.csv.
        config: the resolved configuration as nested dicts.
        start: the word of a command line that starts from its weights.
    """
    at, curve = epochs(list(rows), "val/miou")
    trained = int(max([evaluation.checkpoint.epoch, *(row["epoch"] + 1 for row in rows if "epoch" in row)]))
    last = curve[-1] if at and at[-1] == trained else math.nan
    weak = tuple(weakest(evaluation))
    outcome = Outcome(evaluation.checkpoint.epoch, trained, evaluation.miou, last, mark(evaluation), weak, ())
    tries = tuple(_tries(outcome, evaluation.miou, list(rows), curve, config, start))
    return Outcome(**{**vars(outcome), "tries": tries})


def weakest(evaluation: Evaluation) -> list[WeakClass]:
    """Returns the `NUM_WORST` classes of the lowest IoU among those that the truth has, the worst first."""
    matrix, names = np.asarray(evaluation.matrix, dtype=np.int64), list(evaluation.iou)
    present = [index for index in range(len(names)) if matrix[index].sum() > 0]
    found = []
    for index in sorted(present, key=lambda index: evaluation.iou[names[index]])[:NUM_WORST]:
        missed = matrix[index].copy()
        missed[index] = 0
        other = int(missed.argmax())
        taken = float(missed[other] / matrix[index].sum())
        name = names[index]
        other_name = names[other] if taken else None
        found.append(WeakClass(name, evaluation.iou[name], evaluation.share[name], other_name, taken))
    return found


def _tries(
    outcome: Outcome, miou: float, rows: list[Row], curve: Sequence[float], config: Mapping[str, Any], start: str
) -> Iterator[str]:
    """Yields settings for the next training, each with the figure that speaks for it."""
    ended, lr = outcome.num_epochs, config["optimizer"]["lr"]
    _, losses = epochs(rows, "val/loss")
    rise = max(curve) - max(curve[: -max(1, len(curve) // 5)], default=0.0) if len(curve) > 4 else 0.0
    fall = outcome.best - outcome.last if not math.isnan(outcome.last) else 0.0
    if rise > RISING:
        yield (
            f"trainer.max_epochs={2 * ended}: mIoU still rose by {100 * rise:.1f} points in the last fifth of the "
            "epochs (a new run, whose schedule spans them all)"
        )
    elif fall > FALLEN or (losses and losses[-1] > WORSE * min(losses)):
        reason = f"mIoU fell by {100 * fall:.1f} points" if fall > FALLEN else "val/loss rose"
        yield f"stronger augmentation=... or optimizer.weight_decay=..., for {reason} after its best: overfitting"
    rare = [each.name for each in outcome.worst if each.share < RARE and each.iou < WEAK * miou]
    if rare and not config["data"].get("class_uniform"):
        yield f"data.class_uniform=0.5 or loss=ce_weighted: {', '.join(rare)} rare and badly known"
    backbone = config.get("backbone") or {}
    if backbone and backbone.get("weights") is None and config.get("init_from") is None:
        yield "backbone.weights=imagenet, with backbone=... of a size that has such weights: these began at random"
    yield f"the same command with {start} optimizer.lr={lr / 10:g}: fine-tuning from this run at a lower rate"
