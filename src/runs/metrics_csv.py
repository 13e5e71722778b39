"""Reads the figures that a run logged by step, its metrics.csv."""

import csv
import math
from pathlib import Path

Row = dict[str, float]


def read_metrics(path: Path) -> list[Row]:
    """Reads a metrics.csv: one row per step with the figures logged at it; `step` and `epoch` are int."""
    with path.open(newline="") as file:
        return [
            {key: int(float(text)) if key in ("step", "epoch") else float(text) for key, text in row.items() if text}
            for row in csv.DictReader(file)
        ]


def series(rows: list[Row], key: str, by: str = "step") -> tuple[list[float], list[float]]:
    """Returns the x (`step` or `epoch`) and y of one figure's points, without NaN."""
    points = [(row[by], row[key]) for row in rows if key in row and not math.isnan(row[key])]
    return [x for x, _ in points], [y for _, y in points]


def epochs(rows: list[Row], key: str) -> tuple[list[float], list[float]]:
    """Returns the epochs, counted from 1, and the values of one figure's points."""
    x, y = series(rows, key, by="epoch")
    return [epoch + 1 for epoch in x], y
