"""Trains the rows of a report's table with several seeds, and writes the table."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.files import claim, has_file, sweep, write_text
from src.processes.children import failure, side_by_side
from src.reports.figures import draw_or_note
from src.reports.reproduction import Line, TableRow, TableSpec, make_lines, plot_table, write_table
from src.reports.results_csv import write_rows
from src.runs.folder import STAGES, RunFolder
from src.runs.records import Evaluation, StageRecord
from src.runs.serial import read_record
from src.runs.summary import summarise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One row of a table with one seed."""

    row: str
    seed: int
    folder: Path  # of the run, or of the stages
    commands: list[list[str]]  # that train and evaluate it, each of which skips what it finds done

    @property
    def log(self) -> Path:
        """The file with the output of all commands."""
        return self.folder.with_name(f"{self.folder.name}.log")


@dataclass(frozen=True)
class TablePlan:
    """A table, known in full before its first run."""

    folder: Path
    spec: TableSpec
    jobs: list[Job]
    devices: list[str | None]  # of the runs that go on side by side; None: the child sees what this process sees
    cost: tuple[int, int] | None  # (H, W) of the image whose GFLOPs are counted; None: none are
    build_network: Callable[[RunFolder], Any]  # of a run, with random weights


def make_table(plan: TablePlan) -> list[Line]:
    """Does the runs that are not done yet, and writes `table.csv`, `table.md` and `table.png`.

    Repeat the call to continue. The table holds the runs that are done, even if others failed.

    Raises:
        UserError: some runs failed; names their logs. Or another process works in the folder.
    """
    folder = RunFolder(plan.folder)
    claim(folder.path, "name")
    with folder.lock():
        sweep(folder.path)
        folder.note_session("src.reproduce")
        done = 0

        def work(job: Job, device: str | None) -> str | None:
            nonlocal done
            why = run_job(job, device)
            done += 1
            log.info("%d of %d: %s, seed %d: %s", done, len(plan.jobs), job.row, job.seed, why or "done")
            return why

        failed = {job.log: why for job, why in side_by_side(work, plan.jobs, plan.devices) if why is not None}
        rows = [row for job in plan.jobs if job.log not in failed for row in read_job(job, plan)]
        write_rows(plan.folder / "table.csv", TableRow, rows)
        text = write_table(plan.spec, rows)
        write_text(plan.folder / "table.md", f"# {plan.spec.title}\n\n{text}\n")
        draw_or_note(plan.folder, lambda: _draw(plan, rows))
    log.info("%s\n%s", text, plan.folder)
    if failed:
        reasons = "; ".join(f"{why}; log: {path}" for path, why in failed.items())
        raise UserError(
            f"{len(failed)} of {len(plan.jobs)} runs failed ({reasons}); the others are done, and the same command "
            "runs only the failed ones"
        )
    return make_lines(plan.spec, rows)


def _draw(plan: TablePlan, rows: Sequence[TableRow]) -> dict[str, Path]:
    path = plan.folder / "table.png"
    plot_table(plan.spec, rows, path)
    return {"table": path}


def run_job(job: Job, device: str | None) -> str | None:
    """Runs the commands of a job; returns the reason if one fails, else None."""
    for command in job.commands:
        if why := failure(command, job.log, device):
            return why
    return None


def read_job(job: Job, plan: TablePlan) -> list[TableRow]:
    """Reads the figures of a finished job: one row for a run, one per stage for stages."""
    if not has_file(job.folder / STAGES):
        run = RunFolder(job.folder)
        evaluations = run.read_results().evaluations.values()
        train = next((each for each in evaluations if each.protocol.split == "train"), None)
        return [_row(job.row, job, run, run.read_results().own, train, count_gflops(plan, run))]
    rows = []
    for record in read_record(job.folder / STAGES, tuple[StageRecord, ...]):
        run, name = RunFolder(job.folder / record.stage / record.run), record.stage.partition("_")[2]
        rows.append(_row(f"{job.row}/{name}", job, run, record.winner, None, math.nan))
    return rows


def count_gflops(plan: TablePlan, run: RunFolder) -> float:
    """Counts the GFLOPs of a run's network for one image, two per multiply-accumulate; NaN if the table has no cost."""
    if plan.cost is None:
        return math.nan
    import torch

    from src.reports.network_cost import count_flops

    return count_flops(plan.build_network(run).eval(), torch.zeros(1, 3, *plan.cost, dtype=torch.uint8)) / 1e9


def _row(line: str, job: Job, run: RunFolder, own: Evaluation, train: Evaluation | None, gflops: float) -> TableRow:
    facts = summarise(run)
    return TableRow(
        line=line,
        seed=job.seed,
        miou=own.miou,
        pixel_accuracy=own.pixel_accuracy,
        train_miou=math.nan if train is None else train.miou,
        gflops=gflops,
        minutes=math.nan if facts.minutes is None else facts.minutes,
        protocol=own.tag,
        date=facts.date,
        machine=facts.machine,
        commit=facts.commit,
        command=facts.command,
        id=facts.id,
    )
