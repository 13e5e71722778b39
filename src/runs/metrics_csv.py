"""Reads the figures that a run logged by step, its metrics.csv."""

import csv
import io
import math
from pathlib import Path

from src.errors import UserError
from src.files import damaged

Row = dict[str, float]


def read_metrics(path: Path) -> list[Row]:
    """Reads a metrics.csv: one row per step with the figures logged at it; `step` and `epoch` are int.

    Raises:
        UserError: the file is damaged, cut off or missing.
    """
    try:
        text = path.read_bytes().decode()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError) as error:
        raise damaged(path, error) from error
    reader, rows = csv.reader(io.StringIO(text, newline="")), []
    keys = next(reader, [])
    if "step" not in keys or not text.endswith("\n"):
        raise damaged(path, "it is cut off or has no column step")
    for cells in filter(None, reader):
        try:
            row: Row = {key: float(cell) for key, cell in zip(keys, cells, strict=True) if cell}
            rows.append(row | {key: int(row[key]) for key in ("step", "epoch") if key in row})
        except (ValueError, OverflowError) as error:
            raise damaged(path, f"line {reader.line_num}: {error}") from error
    return rows


def epochs_done(path: Path) -> int:
    """Counts the epochs in a `metrics.csv`, which a training may be writing."""
    try:
        rows = read_metrics(path) if path.is_file() else []
    except UserError:  # the training itself names a damaged file
        rows = []
    return 1 + max((int(row["epoch"]) for row in rows), default=-1)


def holds(rows: list[Row], recorded: list[Row]) -> bool:
    """Returns whether rows have every figure of some recorded ones, and no row of a step beside theirs."""
    return len(rows) == len(recorded) and all(
        _is_same(found.get(key, math.inf), value)
        for found, row in zip(rows, recorded, strict=True)
        for key, value in row.items()
    )


def _is_same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def series(rows: list[Row], key: str, by: str = "step") -> tuple[list[float], list[float]]:
    """Returns the x (`step` or `epoch`) and y of one figure's points, without NaN."""
    points = [(row[by], row[key]) for row in rows if key in row and not math.isnan(row[key])]
    return [x for x, _ in points], [y for _, y in points]


def epochs(rows: list[Row], key: str) -> tuple[list[float], list[float]]:
    """Returns the epochs, counted from 1, and the values of one figure's points."""
    x, y = series(rows, key, by="epoch")
    return [epoch + 1 for epoch in x], y
