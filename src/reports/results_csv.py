"""One CSV of all figures: a row per evaluation of a run, which says how to get it again. RESULTS.md reads it."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from src.errors import UserError
from src.files import damaged, walk, write_text
from src.runs.folder import RESULTS, RunFolder
from src.runs.records import Evaluation
from src.runs.summary import RunSummary, summarise

T = TypeVar("T")
FIGURES = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")


@dataclass(frozen=True)
class ResultRow:
    """One evaluation of one run. Runs of several seeds of one recipe have one row each."""

    run: str
    recipe: str
    data: str
    model: str
    backbone: str
    seed: int
    labels: str
    split: str
    images: int
    inference: str
    precision: str
    checkpoint: str
    weights: str  # `float32`, or `float16` for a network of the zoo
    is_own: bool  # whether it is the evaluation that ended the training
    taints: str  # why the figure flatters; empty if it does not
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: str  # JSON: IoU by class, null if absent
    epoch: int
    step: int
    fingerprint: str  # of the evaluated images and masks
    date: str  # of the training
    minutes: float  # of the training; NaN if unknown
    machine: str
    commit: str
    command: str  # of the training
    id: str  # of the run, wherever its folder is

    @property
    def key(self) -> tuple[str, ...]:
        """Two rows with the same key are the same measurement."""
        return self.id, self.weights, self.split, self.inference, self.precision, self.checkpoint, self.fingerprint


def result_row(facts: RunSummary, evaluation: Evaluation, *, is_own: bool) -> ResultRow:
    """Makes the row of an evaluation."""
    protocol, checkpoint = evaluation.protocol, evaluation.checkpoint
    iou = {name: None if math.isnan(value) else round(value, 6) for name, value in evaluation.iou.items()}
    shared = {field.name for field in fields(ResultRow)} & {field.name for field in fields(RunSummary)}
    return ResultRow(
        **{key: value for key, value in asdict(facts).items() if key in shared - {"minutes"}},
        **{key: getattr(evaluation, key) for key in FIGURES},
        minutes=math.nan if facts.minutes is None else facts.minutes,
        labels=protocol.labels,
        split=protocol.split,
        images=protocol.images,
        inference=protocol.inference,
        precision=protocol.arithmetic,
        checkpoint=checkpoint.name,
        is_own=is_own,
        taints="; ".join(map(str, protocol.taints)),
        iou=json.dumps(iou),
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        fingerprint=protocol.data,
    )


def collect(folders: Iterable[Path]) -> tuple[list[ResultRow], list[str]]:
    """Reads all finished runs at or beneath some folders; returns their rows, and why others have none.

    Raises:
        UserError: no such folder, or a damaged record.
    """
    rows: list[ResultRow] = []
    left_out: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give run folders, or folders above them")
        for run in (RunFolder(path) for path, _, files in walk(folder) if RESULTS in files):
            if not (run.config.is_file() and run.environment.is_file()):
                left_out.append(f"{run.path}: is not complete (no {run.config.name} or {run.environment.name})")
            elif not (results := run.read_results()).finished:
                left_out.append(f"{run.path}: is not finished")
            else:
                facts, own = summarise(run), results.own
                rows += [result_row(facts, each, is_own=each is own) for each in results.evaluations.values()]
    return rows, left_out


def merge(old: Iterable[ResultRow], new: Iterable[ResultRow]) -> list[ResultRow]:
    """Appends rows; one of the same measurement takes the place of the old one."""
    return list({row.key: row for row in (*old, *new)}.values())


def write_rows(path: Path, kind: type[T], rows: Iterable[T]) -> None:
    """Writes rows of a dataclass in one step, with a header; numbers in full, NaN as nothing."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")  # pyright: ignore[reportArgumentType]
    writer.writeheader()
    for row in rows:
        values = asdict(row)  # pyright: ignore[reportArgumentType]
        writer.writerow({key: "" if value != value else value for key, value in values.items()})
    write_text(path, text.getvalue())


def read_rows(path: Path, kind: type[T]) -> list[T]:
    """Reads rows of a dataclass; none if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return []
    kinds = {field.name: field.type for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                kind(**{key: _parse(kinds[key], text) for key, text in row.items()}) for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _parse(kind: object, text: str) -> Any:
    if kind is bool:
        return {"True": True, "False": False}[text]
    if kind is float:
        return float(text) if text else math.nan
    return int(text) if kind is int else text
