"""Presents the report of `src.check`: as JSON, as Markdown, for the terminal, and as a contact sheet."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from src.data.reading import read_image
from src.data.tools.check import ERRORS, WARNINGS, Report
from src.data.tools.check_files import Reading
from src.files import write_json, write_text
from src.reports.pictures import as_rgb, contact_sheet, save_png
from src.reports.tables import markdown, percent, text_table

NUM_PRINTED = 20  # faults of a kind on the terminal; the files have all of them


def write_report(report: Report, name: str, folder: Path, num_samples: int) -> None:
    """Writes report.json, report.md and, if any pair of files is sound, contact_sheet.png with `num_samples` pairs."""
    write_json(folder / "report.json", as_json(report))
    write_text(folder / "report.md", as_markdown(report, name))
    sheet = folder / "contact_sheet.png"
    sheet.unlink(missing_ok=True)
    pairs = []
    for title, reading in choose(report, num_samples):
        assert reading.sample.image is not None
        image = as_rgb(read_image(reading.sample.image, report.source.form))
        pairs.append((title, image, report.source.read_ids(reading.sample.files[1])))
    if pairs:
        save_png(sheet, contact_sheet(pairs, dict(report.source.classes)))


def choose(report: Report, count: int) -> list[tuple[str, Reading]]:
    """Chooses `count` sound pairs and their titles: the same number of each split, evenly spaced in it."""
    sound = [
        [(f"{split}/{reading.sample.name}", reading) for reading in readings if reading.counts is not None]
        for split, readings in report.readings.items()
    ]
    sound = [found for found in sound if found]
    chosen = []
    for index, found in enumerate(sound):
        share = min(len(found), count * (index + 1) // len(sound) - count * index // len(sound))
        chosen += [found[row] for row in np.linspace(0, len(found) - 1, share).round().astype(int)]
    return chosen


def as_json(report: Report) -> dict[str, Any]:
    """The content of report.json."""
    faults = [
        {
            "severity": "error" if fault.is_error else "warning",
            "kind": fault.kind,
            "split": fault.split,
            "files": [str(file) for file in fault.files],
            "text": fault.text,
        }
        for fault in report.faults
    ]
    return {
        "labels": report.source.labels,
        "root": str(report.source.root),
        "errors": len(report.errors),
        "warnings": len(report.faults) - len(report.errors),
        "splits": {
            split: {
                "images": len(readings),
                "sizes": report.sizes(split),
                "shares": report.shares(split),
                "void": report.void(split),
            }
            for split, readings in report.readings.items()
        },
        "outside_the_table": report.outside_the_table(),
        "faults": faults,
    }


def as_markdown(report: Report, name: str) -> str:
    """The text of report.md; `name` is the dataset's."""
    splits = list(report.readings)
    lines = [f"# {name} ({report.source.labels})", "", f"{report.source.root}: {summary(report)}", ""]
    lines += [markdown(["", *splits], _overview(report)), ""]
    lines += ["Classes: share of the pixels that are not void.", "", markdown(["class", *splits], _shares(report))]
    for kind in (*ERRORS, *WARNINGS):
        if texts := [fault.text for fault in report.faults if fault.kind == kind]:
            lines += ["", f"## {'error' if kind in ERRORS else 'warning'}: {kind} ({len(texts)})", ""]
            lines += [f"- {text}" for text in texts]
    return "\n".join(lines) + "\n"


def as_text(report: Report) -> str:
    """The tables and the first faults of each kind, for the terminal."""
    lines = [text_table(["", *report.readings], _overview(report), _shares(report))]
    counts = Counter(fault.kind for fault in report.faults)
    for kind, count in counts.items():
        texts = [fault.text for fault in report.faults if fault.kind == kind][:NUM_PRINTED]
        lines += [f"{'error' if kind in ERRORS else 'warning'}: {kind} ({count})", *(f"  {text}" for text in texts)]
        if count > NUM_PRINTED:
            lines.append(f"  ... and {count - NUM_PRINTED} more, in the report")
    if "train" in report.readings and (found := report.channel_statistics("train")):
        mean, std = (f"[{','.join(map(str, values))}]" for values in found)
        lines.append(f"channels of train: data.mean={mean} data.std={std}")
    if wrong := report.outside_the_table():
        lines.append(f"outside the table: {', '.join(f'{label} ({count} px)' for label, count in wrong.items())}")
    return "\n".join(lines)


def summary(report: Report) -> str:
    """The numbers of errors and warnings."""
    errors, warnings = len(report.errors), len(report.faults) - len(report.errors)
    return f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"


def _overview(report: Report) -> list[list[str]]:
    return [
        ["images", *(str(len(readings)) for readings in report.readings.values())],
        ["sizes (HxW)", *(_sizes(list(report.sizes(split).items())) for split in report.readings)],
        ["void", *(percent(report.void(split), "") for split in report.readings)],
    ]


def _sizes(sizes: list[tuple[str, int]]) -> str:
    text = ", ".join(size if len(sizes) == 1 else f"{size} ({count})" for size, count in sizes[:4])
    return f"{text} and {len(sizes) - 4} more" if len(sizes) > 4 else text


def _shares(report: Report) -> list[list[str]]:
    shares = [report.shares(split) for split in report.readings]
    return [[name, *(percent(share[name], "") for share in shares)] for name in report.source.classes]
