"""Tables of the reports made anew: one CSV row per run, of which table, plot and comparisons are made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.reports.tables import markdown
from src.runs.records import Summary
from src.runs.statistics import Difference, compare, summarise

REPORTED = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "train_miou": "train mIoU"}  # figures that reports have


@dataclass(frozen=True)
class TableRow:
    """The figures of one run in a table."""

    line: str  # name of the line: of the row, or `row/stage`
    seed: int
    miou: float  # on the split that the training validated on
    pixel_accuracy: float
    train_miou: float  # NaN if not evaluated on train
    gflops: float  # NaN if not counted
    minutes: float  # of the training; NaN if unknown
    protocol: str
    date: str
    machine: str
    commit: str
    command: str  # of the training
    id: str  # of the run


@dataclass(frozen=True)
class TableSpec:
    """A table of a report, from `conf/table`."""

    title: str
    report: str
    labels: dict[str, str]  # printed name of each line, in their order
    reported: dict[str, dict[str, float]]  # the report's figures of a line, by the keys of `REPORTED`
    compare: tuple[tuple[str, str], ...]  # pairs of lines

    @property
    def has_miou(self) -> bool:
        """Whether the report gives the mIoU of any line."""
        return any("miou" in figures for figures in self.reported.values())


@dataclass(frozen=True)
class Line:
    """The runs of one line of a table."""

    name: str
    label: str
    rows: tuple[TableRow, ...] = field(repr=False)  # by seed
    summary: Summary  # of their mIoU

    def mean(self, key: str) -> float:
        """Returns the mean of a figure over the runs; NaN if a run has none."""
        return math.fsum(getattr(row, key) for row in self.rows) / len(self.rows)


def make_lines(spec: TableSpec, rows: Sequence[TableRow]) -> list[Line]:
    """Gathers the runs of each line, in the order of the table; lines without a run are left out."""
    lines = []
    for name, label in spec.labels.items():
        if found := sorted((row for row in rows if row.line == name), key=lambda row: row.seed):
            lines.append(Line(name, label, tuple(found), summarise([row.miou for row in found])))
    return lines


def differences(spec: TableSpec, lines: Sequence[Line]) -> list[Difference]:
    """Compares the pairs of a table."""
    return compare({line.name: [row.miou for row in line.rows] for line in lines}, spec.compare)


def write_table(spec: TableSpec, rows: Sequence[TableRow]) -> str:
    """Writes the table as Markdown: every run's mIoU, mean and spread, the report's figures, and the comparisons."""
    lines = make_lines(spec, rows)
    extras = [key for key in ("pixel_accuracy", "train_miou", "gflops", "minutes") if _has(lines, key)]
    titles = {**REPORTED, "gflops": "GFLOPs", "minutes": "minutes per run"}
    reported = [key for key in REPORTED if any(key in spec.reported.get(name, {}) for name in spec.labels)]
    seeds = sorted({row.seed for row in rows})
    header = ["row", f"mIoU, seeds {', '.join(map(str, seeds))}", "mean", "sd", *(titles[key] for key in extras)]
    header += [f"{spec.report} {titles[key]}" for key in reported]
    cells = []
    for name, label in spec.labels.items():
        line = next((each for each in lines if each.name == name), None)
        printed = [_fraction(spec.reported.get(name, {}).get(key, math.nan)) for key in reported]
        if line is None:
            cells.append([label, "not run", *[""] * (2 + len(extras)), *printed])
            continue
        values = ", ".join(_fraction(row.miou) for row in line.rows)
        own = [_value(key, line.mean(key)) for key in extras]
        cells.append([label, values, _fraction(line.summary.mean), _fraction(line.summary.deviation), *own, *printed])
    text = [markdown(header, cells)]
    if found := differences(spec, lines):
        text += ["", _difference_table(spec, found)]
    return "\n".join([*text, "", *_sources(rows)])


def _difference_table(spec: TableSpec, found: Sequence[Difference]) -> str:
    header = ["comparison", "points of mIoU", "95 % interval (Tukey, all pairs of the table)", "p", "reading"]
    rows = []
    for each in found:
        pair = f"{spec.labels[each.line]} against {spec.labels[each.against]}"
        reading = ("higher" if each.mean > 0 else "lower") if each.is_shown else "no difference shown"
        points = [f"{100 * value:+.1f}" for value in (each.mean, each.low, each.high)]
        rows.append([pair, points[0], f"{points[1]} to {points[2]}", f"{each.p:.3f}", reading])
    if spec.has_miou:
        header.append(f"{spec.report}, points")
        for each, row in zip(found, rows, strict=True):
            printed = [spec.reported.get(name, {}).get("miou", math.nan) for name in (each.line, each.against)]
            row.append("" if any(map(math.isnan, printed)) else f"{100 * (printed[0] - printed[1]):+.1f}")
    return markdown(header, rows)


def _sources(rows: Sequence[TableRow]) -> list[str]:
    """States once what all runs share: protocol, machine, commit, days."""
    if not rows:
        return []
    parts = []
    for key, title in (("protocol", "Protocol"), ("machine", "Machine"), ("commit", "Commit"), ("date", "Date")):
        found = sorted({str(getattr(row, key)) for row in rows} - {""})
        parts += [f"{title}: {'; '.join(text[:10] if key == 'commit' else text for text in found)}."] if found else []
    return [" ".join(parts)]


def _has(lines: Sequence[Line], key: str) -> bool:
    return any(not math.isnan(line.mean(key)) for line in lines)


def _fraction(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}".lstrip("0")


def _value(key: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.2f}" if key == "gflops" else f"{value:.1f}" if key == "minutes" else _fraction(value)


def plot_table(spec: TableSpec, rows: Sequence[TableRow], path: Path) -> None:
    """Draws each run, the mean of each line, and the report's figure; if GFLOPs were counted, mIoU against them too."""
    import matplotlib.pyplot as plt

    from src.reports.plotting import name_points, plain_log_ticks, save_figure

    lines = make_lines(spec, rows)
    has_cost = _has(lines, "gflops")
    height = 1.5 + 0.42 * len(lines)
    size = (13, max(4, height)) if has_cost else (7.5, height)
    figure, panels = plt.subplots(1, 2 if has_cost else 1, figsize=size, layout="constrained", squeeze=False)
    axes: Any = panels[0][0]
    for place, line in enumerate(lines):
        axes.plot([row.miou for row in line.rows], [place] * len(line.rows), "o", color="C0", alpha=0.5)
        axes.plot(line.summary.mean, place, "|", color="C0", markersize=22, markeredgewidth=2.5)
        if "miou" in spec.reported.get(line.name, {}):
            axes.plot(spec.reported[line.name]["miou"], place, "D", color="black", fillstyle="none")
    legend = [("o", "C0", "one run"), ("|", "C0", "mean")]
    if spec.has_miou:
        legend.append(("D", "black", spec.report))
    for marker, colour, label in legend:
        axes.plot([], [], marker, color=colour, fillstyle="none" if marker == "D" else "full", label=label)
    labels = [f"{line.label}   {number}" if has_cost else line.label for number, line in enumerate(lines, 1)]
    axes.set_yticks(range(len(lines)), labels)
    axes.set(xlabel="mIoU on val", xlim=(0, None), ylim=(len(lines) - 0.5, -0.5))  # the first line on top
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize="small", ncols=3, loc="outside lower center")
    if has_cost:
        cost = panels[0][1]
        for line in lines:
            x, y = line.mean("gflops"), line.summary.mean
            spread = None if math.isnan(line.summary.deviation) else line.summary.deviation
            cost.errorbar(x, y, spread, fmt="o", color="C0", elinewidth=1, alpha=0.7)
        cost.set(xscale="log", xlabel="GFLOPs", ylabel="mIoU on val: mean and sd")
        plain_log_ticks(cost.xaxis)
        cost.margins(0.2)
        cost.grid(alpha=0.3)
        points = [(str(number), line.mean("gflops"), line.summary.mean) for number, line in enumerate(lines, 1)]
        name_points(cost, sorted(points, key=lambda point: -point[1]), 9)  # of two, the right one's is on the right
    save_figure(figure, path, spec.title)
