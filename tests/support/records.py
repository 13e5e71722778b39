"""Made-up records of runs, folds, averages and stages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from src.data.folds import Split
from src.evaluation.measure import describe_evaluation
from src.runs.records import (
    KINDS,
    AverageRecord,
    CandidateRecord,
    Checkpoint,
    Evaluation,
    FoldRecord,
    FoldsRecord,
    Protocol,
    Summary,
    Taint,
)

DATA = "0123456789ab"  # fingerprint
MATRIX = np.array([[3, 1], [0, 4]])  # mIoU 0.775


def fold_split(fold: int, num_folds: int = 3) -> Split:
    """The held-out part of a fold."""
    return Split("fold", fold, num_folds, "group", seed=42)


def evaluation(
    split: str | Split | Sequence[Split] = "val",
    taints: Sequence[Taint] = (),
    *,
    matrix: np.ndarray = MATRIX,
    classes: Sequence[str] = ("a", "b"),
    checkpoint: str = "best",
    **protocol: Any,
) -> Evaluation:
    """An evaluation of two images of `val` of streets-11, unless said otherwise."""
    splits = (Split(split),) if isinstance(split, str) else (split,) if isinstance(split, Split) else tuple(split)
    defaults = {"labels": "streets-11", "images": 2, "data": DATA, "inference": "whole", "precision": "32-true"}
    described = Protocol(splits=splits, taints=tuple(taints), **{**defaults, **protocol})
    return describe_evaluation(matrix, list(classes), described, Checkpoint(checkpoint, epoch=1, step=2))


def fold_record(
    fold: int, own: Evaluation | None, official: Evaluation | None = None, why: str | None = None
) -> FoldRecord:
    """A fold that is done, or that failed for the reason `why`."""
    return FoldRecord(fold, f"r/fold{fold}", f"r/fold{fold}.log", "failed" if why else "done", why, own, official)


def folds_record(*folds: FoldRecord) -> FoldsRecord:
    """A cross-validation, with the true means and made-up intervals of the evaluations that its folds have."""
    summaries = {}
    for kind in KINDS:
        if figures := [each.miou for each in FoldsRecord(folds, {}).evaluations(kind)]:
            summaries[kind] = Summary(len(figures), sum(figures) / len(figures), 0.1, 0.2, 0.3)
    return FoldsRecord(folds, summaries)


def candidate(name: str, selection: Evaluation, official: Evaluation | None = None) -> CandidateRecord:
    """An average of the runs x and y that did not win."""
    return CandidateRecord(name, ("x", "y"), False, selection, official)


def average_record(*candidates: CandidateRecord, select_on: str = "official_val") -> AverageRecord:
    """Averages of which the first won."""
    first, *others = candidates
    return AverageRecord(select_on, first.name, (replace(first, is_winner=True), *others))
