"""The data that the scripts of a report's page read, as JSON that may stand in HTML."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from src.reports.page.columns import interval
from src.reports.page.content import Content, ReportRow, ReportRun
from src.reports.page.gallery import Gallery, group_of
from src.runs.marks import mark

MOST_POINTS = 240  # of a curve
# Parts of a configuration that repeat others, or that say where things are.
COPIES = ("task", "datamodule", "callbacks", "logger", "run_dir")
# So that no text of a user ends the script element, and no old reader ends a line.
ESCAPED = "<>&\u2028\u2029"


def as_script(content: Content) -> str:
    """Returns the JSON of `payload` for a script element: no character in it can end the element."""
    text = json.dumps(_plain(payload(content)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in ESCAPED:  # str.translate is slow on megabytes
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def payload(content: Content) -> dict[str, Any]:
    """Returns everything that the scripts draw."""
    palettes: list[list[Any]] = []

    def palette_index(run: ReportRun) -> int:
        palette = [[name, list(colour)] for name, colour in run.palette.items()]
        if palette not in palettes:
            palettes.append(palette)
        return palettes.index(palette)

    runs = [
        {
            "name": run.name,
            "palette": palette_index(run),
            "curves": _curves(run),
            "config": _settings(run),
            "parameters": run.cost and run.cost.parameters / 1e6,
            "gflops": run.cost and run.cost.gflops,
            "minutes": run.facts.minutes,
        }
        for run in content.runs
    ]
    return {
        "runs": runs,
        "rows": [_row(row) for row in content.rows],
        "palettes": palettes,
        "galleries": [_gallery(each) for each in content.galleries],
        "folds": [
            {
                "name": name,
                "kinds": {
                    kind: {
                        "folds": [
                            [each.fold, getattr(each, kind).miou] for each in record.folds if getattr(each, kind)
                        ],
                        "mean": summary.mean,
                        "low": summary.low,
                        "high": summary.high,
                        "mark": mark(*record.evaluations(kind)),
                    }
                    for kind, summary in record.summaries.items()
                },
            }
            for name, record in content.folds.items()
        ],
    }


def _settings(run: ReportRun) -> dict[str, Any]:
    """Returns the configuration without the parts that repeat others; colours of classes are in the palettes."""
    settings = {key: value for key, value in run.config.items() if key not in COPIES}
    if isinstance(data := settings.get("data"), dict):
        settings["data"] = {key: value for key, value in data.items() if key != "classes"}
    return settings


def _row(row: ReportRow) -> dict[str, Any]:
    each = row.evaluation
    if each is None:
        return {"run": row.run, "own": row.is_own}
    return {
        "run": row.run,
        "own": row.is_own,
        "group": group_of(each),
        "split": f"{each.protocol.split} ({each.protocol.images})",
        "tag": each.tag,
        "mark": mark(each),
        "miou": each.miou,
        "interval": None if (found := interval(each)) is None else [found.low, found.high],
        "ious": {}
        if each.details is None
        else {name: [found.low, found.high] for name, found in each.details.iou_intervals.items()},
        "iou": list(each.iou.values()),
        "classes": list(each.iou),
        "matrix": each.matrix,
    }


def _gallery(gallery: Gallery) -> dict[str, Any]:
    return {
        "group": gallery.group,
        "shots": [
            {
                "name": shot.name,
                "height": shot.size[0],
                "width": shot.size[1],
                "image": shot.image,
                "truth": shot.truth,
                "predictions": shot.predictions,
                "scores": shot.scores,
            }
            for shot in gallery.shots
        ],
        "cells": {
            row: {f"{truth},{prediction}": images for (truth, prediction), images in cells.items()}
            for row, cells in gallery.cells.items()
        },
    }


def _curves(run: ReportRun) -> dict[str, Any]:
    """Returns the curves of a run by name: steps, epochs done, values; points within an epoch are spread over it."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in run.metrics:
        for key, value in row.items():
            if key not in ("step", "epoch") and not math.isnan(value):
                points.setdefault(key, []).append((row["step"], row["epoch"], value))
    curves = {}
    for key in sorted(points):
        steps, begun, values = zip(*points[key], strict=True)
        counts, seen = Counter(begun), Counter()
        epochs = []
        for epoch in begun:
            seen[epoch] += 1
            epochs.append(epoch + seen[epoch] / counts[epoch])
        places = _thinned(values)
        curves[key] = [[axis[place] for place in places] for axis in (steps, epochs, values)]
    return curves


def _thinned(values: Sequence[float]) -> list[int]:
    """Returns the places of at most about `MOST_POINTS` values, the last and the highest among them."""
    stride = math.ceil(len(values) / MOST_POINTS)
    if stride <= 1:
        return list(range(len(values)))
    highest = max(range(len(values)), key=values.__getitem__)
    return sorted({*range(0, len(values), stride), len(values) - 1, highest})


def _plain(value: Any) -> Any:
    """Returns a value as strict JSON has it: numbers of six digits, None for those that are not finite."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        # Most values are whole numbers in lists: they need no call.
        return [inner if type(inner) is int else _plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, (str, int)) else str(value)
