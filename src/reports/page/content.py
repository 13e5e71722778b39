"""Reads what a report shows: runs, their evaluations, curves and costs, cross-validations, averages and stages."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from src.errors import UserError
from src.files import has_file, walk
from src.reports.page.gallery import Gallery, read_galleries
from src.runs.folder import AVERAGE, FOLDS, RESULTS, STAGES, RunFolder
from src.runs.metrics_csv import Row, read_metrics
from src.runs.records import AverageRecord, Cost, Evaluation, FoldsRecord, StageRecord
from src.runs.serial import read_record
from src.runs.summary import RunSummary, summarise

T = TypeVar("T")


@dataclass(frozen=True)
class ReportRun:
    """One run of a report."""

    folder: RunFolder
    name: str  # unique in the report
    facts: RunSummary
    is_finished: bool
    evaluations: tuple[Evaluation, ...]  # that of a finished training comes first
    metrics: list[Row]  # logged figures by step; empty for a published run
    config: dict[str, Any]
    palette: dict[str, list[int]]
    cost: Cost | None  # None if it was not recorded


@dataclass(frozen=True)
class ReportRow:
    """One row of the table of runs: an evaluation, or None for a run that has none."""

    run: int  # index of the run
    evaluation: Evaluation | None
    is_own: bool  # whether it ended the training, or is the only row of a run


@dataclass(frozen=True)
class Content:
    """Everything in a report."""

    title: str
    runs: tuple[ReportRun, ...]
    rows: tuple[ReportRow, ...]
    folds: dict[str, FoldsRecord]  # by the name of the folder
    averages: dict[str, AverageRecord]
    stages: dict[str, tuple[StageRecord, ...]]
    galleries: tuple[Gallery, ...]
    left_out: tuple[str, ...]  # folders that cannot be read, and why


def read_content(folders: Iterable[Path], title: str, num_images: int, width: int) -> Content:
    """Reads all records at or beneath some folders; images of at most `width` pixels.

    Raises:
        UserError: there is no run in them.
    """
    folders = tuple(folders)
    found = {path.resolve(): path for path in find_records(folders)}
    left_out: list[str] = []

    def read_all(name: str, read: Callable[[Path], T]) -> dict[Path, T]:
        """Reads one kind of record from each folder that has it; notes those that are damaged."""
        records = {}
        for path in found.values():
            try:
                if has_file(path / name):
                    records[path] = read(path)
            except UserError as error:
                left_out.append(str(error))
        return records

    runs = read_all("config.yaml", lambda path: read_run(RunFolder(path)))
    left_out += [
        f"{path}: has figures, but no config.yaml"
        for path in found.values()
        if (path / RESULTS).is_file() and not (path / "config.yaml").exists()
    ]
    if not runs:
        where = ", ".join(map(str, folders))
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise UserError(f"runs={where}: no run in it or beneath it{why}; give run folders, or folders above them")
    others = [
        read_all(FOLDS, lambda path: read_record(path / FOLDS, FoldsRecord)),
        read_all(AVERAGE, lambda path: read_record(path / AVERAGE, AverageRecord)),
        read_all(STAGES, lambda path: read_record(path / STAGES, tuple[StageRecord, ...])),
    ]
    names = unique_names([*runs, *(path for each in others for path in each)])
    folds, averages, stages = ({names[path]: record for path, record in each.items()} for each in others)
    named = tuple(replace(run, name=names[path]) for path, run in runs.items())
    rows = tuple(row for index, run in enumerate(named) for row in _rows(index, run))
    galleries = read_galleries(
        [(index, named[row.run].folder.path, row.evaluation) for index, row in enumerate(rows) if row.evaluation],
        num_images,
        width,
        left_out,
    )
    return Content(title, named, rows, folds, averages, stages, galleries, tuple(left_out))


def find_records(folders: Iterable[Path]) -> Iterator[Path]:
    """Yields the folders at or beneath some folders that have a record; nothing beneath a run folder."""
    for top in folders:
        for path, inner, files in walk(top):
            if {"config.yaml", RESULTS, FOLDS, STAGES} & set(files):
                yield path
            is_run = "config.yaml" in files
            inner[:] = [] if is_run else [name for name in inner if not name.startswith(".")]


def read_run(run: RunFolder) -> ReportRun:
    """Reads one run. Raises UserError if one of its records is damaged."""
    results = run.read_results()
    return ReportRun(
        folder=run,
        name=run.path.name,
        facts=summarise(run),
        is_finished=results.finished,
        evaluations=tuple(results.evaluations.values()),
        metrics=read_metrics(run.metrics) if has_file(run.metrics) else [],
        config=run.read_config(),
        palette=run.palette,
        cost=read_record(run.cost, Cost) if has_file(run.cost) else None,
    )


def unique_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Names folders by the fewest last parts of their paths that no other one ends with."""
    parts = {path: path.resolve().parts for path in paths}
    lengths = dict.fromkeys(parts, 1)
    while True:
        names = {path: "/".join(all_parts[-lengths[path] :]) for path, all_parts in parts.items()}
        counts = Counter(names.values())
        twice = [path for path, name in names.items() if counts[name] > 1 and lengths[path] < len(parts[path])]
        if not twice:
            return names
        for path in twice:
            lengths[path] += 1


def _rows(index: int, run: ReportRun) -> list[ReportRow]:
    if not run.evaluations:
        return [ReportRow(index, None, True)]
    return [ReportRow(index, each, number == 0) for number, each in enumerate(run.evaluations)]
