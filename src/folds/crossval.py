"""Trains one run per fold, each in its own process, and summarises their figures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.files import has_file, read_json, write_json, write_text
from src.processes.children import failure, side_by_side
from src.processes.progress import show_progress
from src.reports.dashboard import Figures, Pictures, fold_figures
from src.reports.figures import draw_folds
from src.reports.tables import fold_table
from src.runs.folder import FOLDS, RunFolder
from src.runs.records import KINDS, Evaluation, FoldRecord, FoldsRecord
from src.runs.serial import is_written
from src.runs.statistics import summarise

log = logging.getLogger(__name__)
Publish = Callable[[Pictures, str, Figures], None]  # shows figures, a table and summary figures on the dashboards


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation."""

    number: int  # the fold that the run holds out, from 0
    run: RunFolder
    log: Path  # file with the output of its commands
    overrides: list[str]  # `crossval.overrides` of this fold
    train: list[str]  # command that trains it
    evaluate: list[str] | None  # command that evaluates it on the dataset's val; None if that is not wanted


@dataclass(frozen=True)
class FoldsPlan:
    """A cross-validation, known in full before its first fold is trained."""

    folder: Path  # has the run folders of the folds, their logs and the record
    folds: list[Fold]
    identity: dict[str, Any]  # configuration that all folds share, by dotted key
    official_data: str | None  # fingerprint of the dataset's val as it is now; None if folds are not evaluated on it
    # Of the folds that are trained at the same time: a GPU, as CUDA_VISIBLE_DEVICES names it; None: what is here.
    devices: list[str | None]
    epochs: int  # per fold
    with_progress: bool  # whether to show progress bars


def cross_validate(plan: FoldsPlan, publish: Publish) -> FoldsRecord:
    """Trains and evaluates the folds that are not done yet, and writes the record, the table and the figures.

    They are published if the record has changed. Repeat the call to continue.

    Raises:
        UserError: some folds failed; names their logs. The others are done in any case.
    """
    record = collect(plan, train_folds(plan))
    if not is_written(plan.folder / FOLDS, record):
        table = fold_table(record)
        write_text(plan.folder / "crossval.md", table + "\n")
        publish(draw_folds(plan.folder, record), table, fold_figures(record))
        write_json(plan.folder / FOLDS, record)  # last: what it holds is drawn and published
    log.info("%s\n%s", fold_table(record), plan.folder)
    if failed := [each for each in record.folds if each.why is not None]:
        reasons = "; ".join(f"fold {each.fold}: {each.why}; log: {each.log}" for each in failed)
        raise UserError(
            f"{len(failed)} of {len(record.folds)} folds failed ({reasons}); the others are finished, and the same "
            "command runs only the failed ones"
        )
    return record


def fold_folder(folder: Path, fold: int) -> Path:
    """Returns the run folder of a fold in the folder of a cross-validation."""
    return folder / f"fold{fold}"


def train_folds(plan: FoldsPlan) -> dict[int, str]:
    """Brings every fold to its end; returns the reasons of those that failed."""
    runs = {f"fold {fold.number}": fold.run for fold in plan.folds}
    with show_progress(runs, plan.epochs, enabled=plan.with_progress):
        ends = side_by_side(lambda fold, device: train_fold(fold, plan.official_data, device), plan.folds, plan.devices)
    return {fold.number: why for fold, why in ends if why is not None}


def train_fold(fold: Fold, official_data: str | None, device: str | None) -> str | None:
    """Trains and evaluates a fold as far as that is not done; returns the reason if it fails, else None."""
    commands = []
    if not fold.run.read_results().finished:
        commands.append(("trains", fold.train))
    if fold.evaluate is not None and official_evaluation(fold.run, official_data) is None:
        commands.append(("is evaluated on val", fold.evaluate))
    if not commands:
        log.info("fold %d: is done", fold.number)
    for text, command in commands:
        log.info("fold %d: %s; log: %s", fold.number, text, fold.log)
        if why := failure(command, fold.log, device):
            log.info("fold %d: failed: %s", fold.number, why)
            return why
    return None


def official_evaluation(run: RunFolder, data: str | None) -> Evaluation | None:
    """Returns a run's evaluation of its result on val by the protocol of its training; None if there is none yet.

    `data`: fingerprint of val. An evaluation of other data does not count, nor one of a checkpoint that was the best
    while the training went on.
    """
    results = run.read_results()
    for evaluation in results.evaluations.values():
        protocol, own, checkpoint = evaluation.protocol, results.own.protocol, results.own.checkpoint
        is_same = all(getattr(protocol, key) == getattr(own, key) for key in ("inference", "precision", "labels"))
        if protocol.split == "val" and protocol.data == data and is_same and evaluation.checkpoint == checkpoint:
            return evaluation
    return None


def collect(plan: FoldsPlan, failed: dict[int, str]) -> FoldsRecord:
    """Reads the figures of all folds from their run folders, those on their own parts and those on val apart.

    Raises:
        UserError: a damaged record, or a fold of other data.
    """
    folds = []
    for fold in plan.folds:
        check_data(plan, fold)
        results, why = fold.run.read_results(), failed.get(fold.number)
        own = results.own if results.finished else None
        official = official_evaluation(fold.run, plan.official_data) if fold.evaluate is not None else None
        state = "done" if why is None else "failed"
        folds.append(FoldRecord(fold.number, str(fold.run.path), str(fold.log), state, why, own, official))
    record = FoldsRecord(tuple(folds), {})
    figures = {kind: [each.miou for each in record.evaluations(kind)] for kind in KINDS}
    return replace(record, summaries={kind: summarise(found) for kind, found in figures.items() if found})


def check_data(plan: FoldsPlan, fold: Fold) -> None:
    """Raises UserError if a run in the place of a fold was trained on other data than the cross-validation has."""
    if not has_file(fold.run.identity):
        return
    saved = read_json(fold.run.identity)
    for key in (key for key in plan.identity if key.startswith("data.fingerprint.")):
        found = saved.get(key) if isinstance(saved, dict) else None
        if found != plan.identity[key]:
            raise UserError(
                f"{fold.run.path}: is of other data than this cross-validation ({key}: {found} -> "
                f"{plan.identity[key]}); move it away, and the same command trains this fold again"
            )
