"""Trains in stages: each cross-validates and averages its folds, and starts from the stage before."""

import logging
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.files import claim, sweep, write_json, write_text
from src.folds.crossval import Publish, fold_folder
from src.processes.children import failure
from src.processes.progress import show_progress
from src.reports.dashboard import stage_figures
from src.reports.figures import draw_stages
from src.reports.tables import stage_table
from src.runs.folder import AVERAGE, FOLDS, STAGES, RunFolder
from src.runs.records import AverageRecord, FoldsRecord, StageRecord
from src.runs.serial import is_written, read_record

log = logging.getLogger(__name__)
WINNER = "aggregate"  # name of the winner's run folder in the folder of a stage


@dataclass(frozen=True)
class Stage:
    """A cross-validation and the average of its folds."""

    folder: Path  # has the run folders of its folds, and that of the winner
    train: list[str]  # command of src.crossval
    average: list[str]  # command of src.aggregate
    num_folds: int
    epochs: int  # per fold

    @property
    def log(self) -> Path:
        """The file with the output of both commands."""
        return self.folder.with_name(f"{self.folder.name}.log")


@dataclass(frozen=True)
class StagesPlan:
    """All stages in their order, known in full before the first one begins."""

    folder: Path  # has the folders of the stages, their logs and the record
    stages: list[Stage]
    with_progress: bool  # whether to show progress bars


def train_stages(plan: StagesPlan, publish: Publish) -> tuple[StageRecord, ...]:
    """Does the work of every stage that is not done yet, and writes the record, the table and the figures.

    They are published if the record has changed. Repeat the call to continue.

    Raises:
        UserError: a stage failed, which ends them all, or another process works in the folder.
    """
    folder = RunFolder(plan.folder)
    claim(folder.path, "name")
    with folder.lock():
        sweep(folder.path)
        folder.note_session("src.stages")
        for stage in plan.stages:
            train_stage(stage, with_progress=plan.with_progress)
        records = tuple(collect(stage) for stage in plan.stages)
        if not is_written(plan.folder / STAGES, records):
            table = stage_table(records)
            write_text(plan.folder / "stages.md", table + "\n")
            publish(draw_stages(plan.folder, records), table, stage_figures(records))
            write_json(plan.folder / STAGES, records)  # last: what it holds is drawn and published
    log.info("%s\n%s", stage_table(records), plan.folder)
    return records


def train_stage(stage: Stage, *, with_progress: bool) -> None:
    """Runs both commands of a stage, each of which skips what it finds done. Raises UserError if one fails."""
    folds = {f"fold {fold}": RunFolder(fold_folder(stage.folder, fold)) for fold in range(stage.num_folds)}
    for command, runs in ((stage.train, folds), (stage.average, {})):
        log.info("%s: %s; log: %s", stage.folder.name, command[0], stage.log)
        with show_progress(runs, stage.epochs, enabled=with_progress):
            why = failure(command, stage.log)
        if why:
            raise UserError(
                f"stage {stage.folder.name} failed, and the next ones start from it: {why}; log: {stage.log}; "
                "the same command continues here"
            )


def collect(stage: Stage) -> StageRecord:
    """Reads the figures of a stage's folds and of its averages."""
    winner = stage.folder / WINNER
    return StageRecord(
        stage.folder.name,
        WINNER,
        folds=read_record(stage.folder / FOLDS, FoldsRecord),
        averages=read_record(winner / AVERAGE, AverageRecord),
        winner=RunFolder(winner).read_results().own,
    )
