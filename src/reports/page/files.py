"""Writes a report: the page, its tables as Markdown, and two CSV files."""

import base64
import csv
import hashlib
import io
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from src.files import write_text
from src.reports.page.columns import (
    Value,
    all_notes,
    best_rows,
    find_seeds,
    runs_table,
    seeds_table,
    shown_columns,
)
from src.reports.page.content import Content
from src.reports.page.gallery import counted, group_of
from src.reports.page.payload import as_script
from src.reports.results_csv import ResultRow, result_row, write_rows
from src.reports.tables import Table, candidate_cells, fold_cells, stage_cells

HTML = Path(__file__).parents[1] / "html"
SCRIPTS = ("core", "table", "plots", "confusion", "gallery", "settings")  # in the order in which they run


def write_report(content: Content, folder: Path) -> Path:
    """Writes report.html, report.md, runs.csv and classes.csv; returns the path of the page."""
    write_text(folder / "report.html", as_html(content))
    write_text(folder / "report.md", as_markdown(content))
    rows = [
        result_row(content.runs[row.run].facts, row.evaluation, is_own=row.is_own)
        for row in content.rows
        if row.evaluation is not None
    ]
    write_rows(folder / "runs.csv", ResultRow, rows)
    write_text(folder / "classes.csv", classes_csv(content))
    return folder / "report.html"


def as_html(content: Content) -> str:
    """Writes the page; nothing in it is loaded from elsewhere, and its policy allows no other script than its own."""
    style = (HTML / "style.css").read_text(encoding="utf-8")
    script = "\n".join((HTML / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(loader=FileSystemLoader(HTML), autoescape=True, undefined=StrictUndefined)
    seeds, rows = find_seeds(content), _rows(content)
    return environment.get_template("page.html.jinja").render(
        title=content.title,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        runs=len(content.runs),
        columns=shown_columns(content),
        numeric={index for row in rows for index, cell in enumerate(row["cells"]) if cell["is_number"]},
        rows=rows,
        groups={group_of(each): counted(each) for row in content.rows if (each := row.evaluation) is not None},
        notes=all_notes(content),
        left_out=content.left_out,
        seeds=seeds_table(seeds) if seeds else None,
        records=_records(content),
        style=style,
        style_hash=_digest(style),
        script=script,
        script_hash=_digest(script),
        data=as_script(content),
    )


def as_markdown(content: Content) -> str:
    """Writes all tables of the page as Markdown."""
    seeds = find_seeds(content)
    parts = [f"# {content.title}", "## Runs", str(runs_table(content))]
    parts += ["## Noise of the seed", str(seeds_table(seeds))] if seeds else []
    for record in _records(content):
        parts += [f"## {record['name']}: {record['kind']}", str(record["table"])]
    parts += [f"left out: {line}" for line in content.left_out]
    return "\n\n".join(parts) + "\n"


def classes_csv(content: Content) -> str:
    """Writes IoU, accuracy and pixel share of each class of each evaluation; empty cells for absent classes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "protocol", "class", "iou", "accuracy", "share"])
    for row in content.rows:
        if (each := row.evaluation) is not None:
            for name in each.iou:
                figures = (each.iou[name], each.accuracy[name], each.share[name])
                values = ["" if math.isnan(value) else value for value in figures]
                writer.writerow([content.runs[row.run].name, each.tag, name, *values])
    return text.getvalue()


def _rows(content: Content) -> list[dict[str, Any]]:
    """Describes the rows of the table of runs for the template."""
    best, columns = best_rows(content), shown_columns(content)
    described = []
    for index, row in enumerate(content.rows):
        run, each = content.runs[row.run], row.evaluation
        cells = []
        for column in columns:
            value = column.value(run, each)
            cells.append(
                {
                    "text": column.text(run, each),
                    "value": _sortable(value),
                    "is_number": isinstance(value, int | float),
                    "is_best": index in best.get(column.key, ()),
                }
            )
        described.append(
            {
                "name": run.name,
                "path": str(run.folder.path),
                "command": run.facts.command,
                "tag": each.tag if each is not None else "",
                "group": group_of(each) if each is not None else "",
                "own": row.is_own,
                "cells": cells,
            }
        )
    return described


def _sortable(value: Value) -> str:
    """Writes the value that a cell is sorted by; empty if there is none."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _records(content: Content) -> list[dict[str, Any]]:
    """Describes the tables of cross-validations, averages and stages for the template."""
    found: list[tuple[str, str, Table, int | None]] = [
        (name, "folds", fold_cells(record), number) for number, (name, record) in enumerate(content.folds.items())
    ]
    found += [(name, "averages", candidate_cells(record), None) for name, record in content.averages.items()]
    found += [(name, "stages", stage_cells(record), None) for name, record in content.stages.items() if record]
    return [{"name": name, "kind": kind, "table": table, "fold": fold} for name, kind, table, fold in found]


def _digest(text: str) -> str:
    """Returns the hash of a script or style by which the page's policy knows it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
