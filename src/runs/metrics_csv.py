"""Logged figures by step, as a metrics.csv of a run folder has them. Without torch."""

import csv
import math
from pathlib import Path

Row = dict[str, float]


def read_metrics(path: Path) -> list[Row]:
    """Rows of a metrics.csv, each with the figures that were logged at its step (`step` and `epoch` as int)."""
    with path.open(newline="") as file:
        return [
            {key: int(float(text)) if key in ("step", "epoch") else float(text) for key, text in row.items() if text}
            for row in csv.DictReader(file)
        ]


def series(rows: list[Row], key: str, by: str = "step") -> tuple[list[float], list[float]]:
    """The points of one figure, x by `by`; NaN left out."""
    points = [(row[by], row[key]) for row in rows if key in row and not math.isnan(row[key])]
    return [x for x, _ in points], [y for _, y in points]
