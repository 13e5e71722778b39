"""The tables of RESULTS.md, made from the CSVs of results/, so that no figure is typed."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from src.errors import UserError
from src.reports.reproduction import TableRow, TableSpec, write_table
from src.reports.results_csv import ResultRow, read_rows
from src.reports.tables import markdown

# `<!-- runs: NAME, NAME -->` stands above a table of runs, `<!-- evaluations: ... -->` above one of all their
# evaluations, `<!-- classes: ... -->` above one of their classes, and `<!-- table: NAME -->` above a table of a report.
BLOCK = re.compile(r"(<!-- (runs|evaluations|classes|table): ([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str, folder: Path, read_spec: Callable[[str], TableSpec]) -> str:
    """Returns the page with its tables as the CSVs have them.

    Args:
        page: Markdown.
        folder: the CSVs: `runs.csv`, and `tables/NAME.csv` for each table of a report.
        read_spec: reads `conf/table/NAME.yaml`.

    Raises:
        UserError: a run that `runs.csv` does not have, a table without a CSV.
    """
    rows = read_rows(folder / "runs.csv", ResultRow)

    def table(found: re.Match[str]) -> str:
        head, kind, names, end = found.groups()
        if kind == "table":
            path = folder / "tables" / f"{names}.csv"
            if not (given := read_rows(path, TableRow)):
                raise UserError(f"{head.strip()}: there is no {path}; copy table.csv of python -m src.reproduce there")
            return f"{head}{write_table(read_spec(names), given)}\n{end}"
        chosen = [_find(rows, name.strip()) for name in names.split(",")]
        if kind == "evaluations":
            return f"{head}{run_table([row for each in chosen for row in rows if row.run == each.run])}\n{end}"
        return f"{head}{class_table(chosen) if kind == 'classes' else run_table(chosen)}\n{end}"

    return BLOCK.sub(table, page)


def _find(rows: Sequence[ResultRow], name: str) -> ResultRow:
    """Returns the row of a run's own evaluation."""
    found = [row for row in rows if row.run == name and row.is_own]
    if not found:
        raise UserError(f"results: no run {name} in runs.csv; add it by scripts/collect_results.py runs/{name}")
    return found[-1]


def run_table(rows: Sequence[ResultRow]) -> str:
    """Writes figures, protocol, time, machine, commit and day of runs."""
    header = [
        "run",
        "mIoU",
        "pixel accuracy",
        "fwIoU",
        "seed",
        "protocol",
        "epoch kept",
        "minutes",
        "machine",
        "commit",
    ]
    cells = []
    for row in rows:
        protocol = f"{row.labels} {row.split} ({row.images}), {row.inference}"
        figures = [f"{value:.4f}" for value in (row.miou, row.pixel_accuracy, row.frequency_weighted_iou)]
        minutes = "" if math.isnan(row.minutes) else f"{row.minutes:.1f}"
        machine = f"{row.machine}, {row.date}"
        cells.append([row.run, *figures, str(row.seed), protocol, str(row.epoch), minutes, machine, row.commit[:8]])
    return markdown([*header], cells)


def class_table(rows: Sequence[ResultRow]) -> str:
    """Writes the IoU of each class of runs on the same classes, one column per run."""
    classes = [json.loads(row.iou) for row in rows]
    cells = [
        [name, *("" if each.get(name) is None else f"{each[name]:.3f}" for each in classes)] for name in classes[0]
    ]
    return markdown(["class", *(row.run for row in rows)], cells)
