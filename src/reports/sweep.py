"""A sweep as a table, as CSV and as a plot: one row per job, one column per factor."""

import csv
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table as RichTable

from src.files import atomic_path, write_text
from src.reports.tables import Table
from src.runs.folder import RunFolder
from src.runs.marks import mark, notes
from src.runs.metrics_csv import epochs_done
from src.runs.sweep import Job, Sweep

MARKDOWN, ROWS, PLOT = "summary.md", "summary.csv", "summary.png"


def write_summary(sweep: Sweep, folder: Path) -> None:
    """Writes the table of a sweep, as Markdown and as CSV, into its folder."""
    write_text(folder / MARKDOWN, summary(sweep))
    with atomic_path(folder / ROWS) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", *sweep.plan.factors, "run", "state", "miou", "pixel_accuracy", "best_epoch", "error"])
        for job in sweep.jobs:
            best = job.evaluation
            figures = [best.miou, best.pixel_accuracy, best.checkpoint.epoch] if best else ["", "", ""]
            writer.writerow([job.number, *_levels(sweep, job), _run(job), job.state, *figures, job.note.error or ""])


def summary(sweep: Sweep) -> str:
    """Tabulates the jobs of a sweep, the means over seeds and folds, and the share of each factor, as Markdown."""
    parts = [str(_jobs(sweep))]
    if groups := sweep.groups():
        rows = [
            [*each.values.values(), str(each.summary.count), f"{each.summary.mean:.4f}{mark(*each.evaluations)}",
             "" if each.summary.count == 1 else f"{each.summary.deviation:.4f}"]
            for each in sorted(groups, key=lambda group: -group.summary.mean)
        ]  # fmt: skip
        header = [*groups[0].values, "runs", "mean val/miou", "standard deviation"]
        parts.append(str(Table(header, rows, ["Over seeds and folds."])))
    if effects := sweep.effects():
        rows = [[name, f"{100 * share:.0f} %"] for name, share in sorted(effects.items(), key=lambda item: -item[1])]
        rest = "Of the variance of val/miou, by itself (eta squared); the rest is interactions and chance."
        parts.append(str(Table(["factor", "explains"], rows, [rest])))
    if failed := [job for job in sweep.jobs if job.state == "failed"]:
        lines = (f"job {job.number} failed ({' '.join(_own(sweep, job))}): {job.note.error}" for job in failed)
        parts.append("\n".join(lines))
    if dropped := sweep.plan.dropped:
        parts.append("\n".join(f"left out ({words}): {why}" for words, why in dropped.items()))
    return "\n\n".join(parts)


def progress(sweep: Sweep) -> str:
    """Describes in one line how far a sweep is."""
    states = [job.state for job in sweep.jobs if job.has_begun or job.evaluation]
    of = f" of {sweep.plan.jobs}" if sweep.plan.jobs is not None else ""
    others = "".join(f", {states.count(name)} {name}" for name in ("pruned", "failed") if name in states)
    text = f"sweep: {states.count('done')}{of} jobs done{others}"
    best = sweep.best
    if best is not None and best.evaluation is not None:
        text += f"; best val/miou {best.evaluation.miou:.4f} (job {best.number}: {' '.join(_own(sweep, best))})"
    left = [f"{len(sweep.running)} running"] if sweep.running else []
    left += [f"{sweep.queued} queued"] if sweep.queued else []
    if left and (minutes := sweep.minutes_left) is not None:
        left.append(f"about {timedelta(seconds=round(60 * minutes))} left")
    return "; ".join([text, *([", ".join(left)] if left else [])])


def ended(sweep: Sweep, job: Job) -> str:
    """Describes in one line how a job has ended, and how far the sweep is."""
    figure = f", val/miou {job.evaluation.miou:.4f}" if job.evaluation else ""
    reason = f": {job.note.error}" if job.state == "failed" else ""
    return f"job {job.number} ({' '.join(_own(sweep, job))}): {job.state}{figure}{reason}; {progress(sweep)}"


def live_state(sweep: Sweep, clean: Callable[[str], str]) -> Group:
    """Puts the line of `progress` below a table of the running and the failed jobs, if there are any.

    Args:
        clean: makes a text printable, which has what users named.
    """
    header = ["job", *sweep.plan.factors, "epochs done", "state"]
    table, line = RichTable(*(escape(clean(name)) for name in header)), escape(clean(progress(sweep)))
    for job in sweep.jobs:
        if job.is_running or (job.has_begun and job.state == "failed"):
            epochs = str(epochs_done(RunFolder(Path(job.note.run)).metrics)) if job.note.run else ""
            state = "running" if job.is_running else f"failed: {job.note.error}"
            cells = [str(job.number), *_levels(sweep, job), epochs, state]
            table.add_row(*(escape(clean(cell)) for cell in cells))
    return Group(table, line) if table.row_count else Group(line)


def draw_summary(sweep: Sweep, folder: Path) -> Path | None:
    """Draws the mIoU of the jobs by each factor, as a PNG; returns its path, or None if there is nothing to compare."""
    from src.reports.sweep_plot import plot_factors  # imports matplotlib

    if len(sweep.done) < 2 or not sweep.plan.factors:
        return None
    plot_factors(sweep, folder / PLOT)
    return folder / PLOT


def _jobs(sweep: Sweep) -> Table:
    factors = sweep.plan.factors
    rows = []
    for job in sweep.jobs:
        best = job.evaluation
        miou, accuracy = (
            (f"{value:.4f}{mark(best)}" for value in (best.miou, best.pixel_accuracy)) if best else ("", "")
        )
        epoch = str(best.checkpoint.epoch) if best else ""
        rows.append([str(job.number), *_levels(sweep, job), _run(job), miou, accuracy, epoch, job.state])
    header = ["job", *factors, "run", "val/miou", "pixel accuracy", "best epoch", "state"]
    return Table(header, rows, notes(job.evaluation for job in sweep.jobs if job.evaluation))


def _levels(sweep: Sweep, job: Job) -> list[str]:
    return [job.values.get(name, "") for name in sweep.plan.factors]


def _own(sweep: Sweep, job: Job) -> list[str]:
    """Returns those words of a job's command line that differ between the jobs."""
    return [f"{name}={value}" for name, value in zip(sweep.plan.factors, _levels(sweep, job), strict=True)]


def _run(job: Job) -> str:
    return Path(job.note.run).name if job.note.run else "-"
