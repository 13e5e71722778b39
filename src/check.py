"""Checks a dataset: reads every file, names all that is wrong, shows what is in it. `python -m src.check --help`"""

import logging
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from src.config.cli import launch
from src.data.reading import read_image
from src.data.tools.check import ERRORS, WARNINGS, Reading, Report, check
from src.errors import UserError
from src.files import write_json, write_text
from src.machine import num_cores
from src.reports.contact_sheet import contact_sheet
from src.reports.pictures import save_png
from src.reports.tables import render

log = logging.getLogger(__name__)
TOLD = 20  # faults of a kind on the terminal; the report has them all


def check_data(cfg: DictConfig) -> Report:
    """Checks the dataset of a composed config; leaves report.json, report.md and contact_sheet.png in `cfg.out`.

    Raises:
        UserError: training would fail on it, or its figures would lie.
    """
    if OmegaConf.is_missing(cfg.data, "root"):
        raise UserError("data.root is not set; give data.root=DIR, the folder that holds the dataset")
    if "root" not in cfg.data.dataset:
        raise UserError(f"data={cfg.data.name}: these images are drawn, not read: nothing to check; choose data=...")
    if not isinstance(cfg.num_samples, int) or cfg.num_samples < 0:
        raise UserError(f"num_samples={cfg.num_samples}: must be a whole number, at least 0")
    processes = num_cores() if cfg.num_processes == "auto" else cfg.num_processes
    if not isinstance(processes, int) or processes < 1:
        raise UserError(f"num_processes={processes}: must be auto or a whole number, at least 1")
    start, folder = time.perf_counter(), Path(cfg.out).expanduser()
    report = check(partial(build, cfg.data.dataset), Path(cfg.data.root), cfg.splits, processes)
    seconds = time.perf_counter() - start
    count = len({reading.sample.image for readings in report.readings.values() for reading in readings})
    write_json(folder / "report.json", as_json(report))
    write_text(folder / "report.md", as_markdown(report, cfg.data.name))
    (folder / "contact_sheet.png").unlink(missing_ok=True)
    if chosen := choose(report, cfg.num_samples):
        pairs = [(title, read_image(r.sample.image), report.source.read_labels(r.sample)) for title, r in chosen]
        save_png(folder / "contact_sheet.png", contact_sheet(pairs, report.source.classes))
    log.info("%s\n%d images in %.1f s; report and contact sheet: %s", as_text(report), count, seconds, folder)
    if report.errors:
        raise UserError(f"{summary(report)} in {cfg.data.root}; {folder / 'report.md'} names every file")
    log.info("%s: %s", cfg.data.name, summary(report))
    return report


def build(dataset: DictConfig, root: str) -> object:
    return instantiate(dataset, root=root, _convert_="all")


def choose(report: Report, count: int) -> list[tuple[str, Reading]]:
    """Samples for the contact sheet with their titles: sound ones, of every split alike, evenly spaced in it."""
    sound = [
        [(f"{split}/{reading.sample.name}", reading) for reading in readings if reading.counts is not None]
        for split, readings in report.readings.items()
    ]
    sound = [found for found in sound if found]
    chosen = []
    for place, found in enumerate(sound):
        share = min(len(found), count * (place + 1) // len(sound) - count * place // len(sound))
        chosen += [found[index] for index in np.linspace(0, len(found) - 1, share).round().astype(int)]
    return chosen


def as_json(report: Report) -> dict:
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
        "root": str(report.root),
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
        "outside_the_table": report.wrong_labels(),
        "faults": faults,
    }


def as_markdown(report: Report, name: str) -> str:
    splits = list(report.readings)
    lines = [f"# {name} ({report.source.labels})", "", f"{report.root}: {summary(report)}", ""]
    lines += [_row(["", *splits]), _row(["---", *["---:"] * len(splits)])]
    lines += [_row(cells) for cells in _overview(report)]
    lines += ["", "Classes: share of the pixels that are not void.", ""]
    lines += [_row(["class", *splits]), _row(["---", *["---:"] * len(splits)])]
    lines += [_row(cells) for cells in _shares(report)]
    for kind in (*ERRORS, *WARNINGS):
        if texts := [fault.text for fault in report.faults if fault.kind == kind]:
            lines += ["", f"## {'error' if kind in ERRORS else 'warning'}: {kind} ({len(texts)})", ""]
            lines += [f"- {text}" for text in texts]
    return "\n".join(lines) + "\n"


def as_text(report: Report) -> str:
    """For the terminal: tables, then what is wrong."""
    table = Table()
    table.add_column("")
    for split in report.readings:
        table.add_column(split, justify="right")
    for cells in _overview(report):
        table.add_row(*cells)
    table.add_section()
    for cells in _shares(report):
        table.add_row(*cells)
    lines = [render(table)]
    counts = Counter(fault.kind for fault in report.faults)
    for kind, count in counts.items():
        texts = [fault.text for fault in report.faults if fault.kind == kind][:TOLD]
        lines += [f"{'error' if kind in ERRORS else 'warning'}: {kind} ({count})", *(f"  {text}" for text in texts)]
        if count > TOLD:
            lines.append(f"  ... and {count - TOLD} more, in the report")
    if wrong := report.wrong_labels():
        lines.append(f"outside the table: {', '.join(f'{label} ({count} px)' for label, count in wrong.items())}")
    return "\n".join(lines)


def summary(report: Report) -> str:
    counts = {"error": len(report.errors), "warning": len(report.faults) - len(report.errors)}
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


def _overview(report: Report) -> list[list[str]]:
    splits = report.readings
    sizes = {split: list(report.sizes(split).items()) for split in splits}
    return [
        ["images", *(str(len(readings)) for readings in splits.values())],
        ["sizes (HxW)", *(_told_sizes(sizes[split]) for split in splits)],
        ["void", *(_percent(report.void(split)) for split in splits)],
    ]


def _told_sizes(sizes: list[tuple[str, int]]) -> str:
    told = ", ".join(size if len(sizes) == 1 else f"{size} ({count})" for size, count in sizes[:4])
    return f"{told} and {len(sizes) - 4} more" if len(sizes) > 4 else told


def _shares(report: Report) -> list[list[str]]:
    shares = [report.shares(split) for split in report.readings]
    return [[name, *(_percent(share[name]) for share in shares)] for name in report.source.classes]


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.2f} %"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    launch(check_data, "check")
