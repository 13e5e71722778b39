"""Dashboards: the calls that every logger of conf/logger takes, and figures for their summaries.

The names of figures on images that the weights have seen end with the mark.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from src.runs.marks import mark
from src.runs.records import Evaluation, FoldsRecord, StageRecord, Taint

Pictures = dict[str, Path]
Figures = dict[str, float | str]


@dataclass(frozen=True)
class Example:
    """A validation image with its truth and its prediction."""

    name: str
    image: np.ndarray  # uint8 `(H, W, 3)`
    truth: np.ndarray  # uint8 `(H, W)`, 0..K-1 or 255
    prediction: np.ndarray  # uint8 `(H, W)`, 0..K-1


@dataclass(frozen=True)
class Description:
    """The facts of a run for its page: the flat configuration, and words to find it by."""

    config: Mapping[str, Any]  # by dotted keys
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """Predictions of the same validation images at one moment of a training."""

    images: Sequence[Example]
    classes: Sequence[str]  # names, in the order of the ids
    panel: np.ndarray  # the images as one picture, uint8 `(H, W, 3)`
    epoch: int  # epochs trained
    step: int  # optimiser steps done


@dataclass(frozen=True)
class Publication:
    """Results that are shown once, at the end."""

    pictures: Mapping[str, Path]  # PNG files by name
    table: str
    figures: Mapping[str, float | str]  # for the summary: `marked_figures`
    evaluation: Evaluation | None = None


class Dashboard:
    """A logger that shows more than curves; entered before the first figure, left after the last. Does nothing here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        pass

    def describe(self, description: Description) -> None:
        """Takes the configuration and the tags of the run, before the first figure."""

    def mark(self, taints: Sequence[Taint]) -> None:
        """Marks the run as one whose curves are of images that its weights have seen."""

    def count_epochs(self, share: Callable[[], float]) -> None:
        """Takes a function that returns the share of the current epoch, 0 to 1, whose batches are done."""

    def show_examples(self, examples: Examples) -> None:
        """Shows predictions of the same images through training."""

    def publish(self, results: Publication) -> None:
        """Shows pictures, table, figures and evaluation."""


def marked_figures(name: str, evaluation: Evaluation) -> Figures:
    """Figures of an evaluation: `name/miou` and others."""
    figures = {
        "protocol": evaluation.tag,
        "miou": evaluation.miou,
        "pixel_accuracy": evaluation.pixel_accuracy,
        "fwiou": evaluation.frequency_weighted_iou,
    }
    return {f"{name}/{key}{mark(evaluation)}": value for key, value in figures.items()}


def fold_figures(record: FoldsRecord) -> Figures:
    """Summaries of a cross-validation: `own/miou_mean` and others."""
    return {
        f"{kind}/miou_{key}{mark(*record.evaluations(kind))}": getattr(summary, key)
        for kind, summary in record.summaries.items()
        for key in ("mean", "deviation", "low", "high")
    }


def stage_figures(records: Sequence[StageRecord]) -> Figures:
    """Figures of the winner of each stage."""
    return {key: value for each in records for key, value in marked_figures(each.stage, each.winner).items()}


def confusion_shares(evaluation: Evaluation) -> list[tuple[str, str, float]]:
    """Lists (true class, predicted class, per cent of the true class's pixels) of every cell; 0 for an absent class."""
    matrix = np.asarray(evaluation.matrix, dtype=np.float64)
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = list(evaluation.iou)
    return [
        (truth, predicted, round(float(shares[row, column]), 2))
        for row, truth in enumerate(names)
        for column, predicted in enumerate(names)
    ]
