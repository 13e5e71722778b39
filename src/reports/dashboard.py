"""Figures of runs, folds and stages for a dashboard's summary; the names of tainted ones end with the mark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from src.runs.marks import mark
from src.runs.records import Evaluation, FoldsRecord, StageRecord, Taint

Pictures = dict[str, Path]
Figures = dict[str, float | str]


class Dashboard:
    """A logger that may also show results; entered before the first figure, left after the last. Does nothing here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def mark(self, taints: Sequence[Taint]) -> None:
        """Marks the run as one whose curves are of images that its weights have seen."""

    def publish(self, pictures: Mapping[str, Path], table: str, figures: Mapping[str, float | str]) -> None:
        """Shows PNG files by name, a table as text, and figures of the summary (`marked_figures`)."""


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
