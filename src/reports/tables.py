"""Tables as text, for the terminal and the log, and as Markdown, for files."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from src.metrics.road import PERSPECTIVE
from src.runs.details import Interval
from src.runs.marks import mark, notes
from src.runs.records import KINDS, AverageRecord, Evaluation, FoldsRecord, StageRecord, Summary

MARKUP = re.compile(r"[|<]")  # which would end a cell of Markdown, or begin HTML
TITLES = {"own": "mIoU on its own part", "official": "mIoU on val"}  # columns of a cross-validation, by `KINDS`


def percent(value: float, absent: str = "absent") -> str:
    """Formats a fraction as `12.34 %`, or as `absent` if it is NaN."""
    return absent if math.isnan(value) else f"{100 * value:.2f} %"


def figure(evaluation: Evaluation, key: str = "miou") -> str:
    """Formats a figure of an evaluation in percent, with its mark if it is tainted."""
    return f"{percent(getattr(evaluation, key))}{mark(evaluation)}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a Markdown table: the first column to the left, the others to the right."""
    rows = [[MARKUP.sub(r"\\\g<0>", cell) for cell in cells] for cells in rows]
    lines = [list(header), ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Table:
    """A table of texts with the lines below it."""

    header: list[str]
    rows: list[list[str]]
    lines: list[str]  # what was counted, and the notes of the marks

    def __str__(self) -> str:
        """Writes the table as Markdown."""
        return "\n".join([markdown(self.header, self.rows), "", *self.lines])


def text_table(header: Sequence[str], *sections: Iterable[Sequence[str]]) -> str:
    """Draws a table as text: the first column to the left, the others to the right, a line between sections."""
    table = RichTable(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for rows in sections:
        for cells in rows:
            table.add_row(*cells)
        table.add_section()
    return render(table)


def render(table: RichTable) -> str:
    """Draws a table as text of at most 120 columns."""
    text = StringIO()
    # Cells are names of users as they are: [bold] and :smile: are letters. The text goes to files too: it has no
    # colours, also if FORCE_COLOR is set, as in notebooks.
    console = Console(
        file=text, width=120, legacy_windows=False, markup=False, emoji=False, highlight=False,
        force_terminal=False, color_system=None,
    )  # fmt: skip
    console.print(table)
    return text.getvalue().rstrip()


def class_table(evaluation: Evaluation) -> str:
    """Draws IoU, accuracy and pixel share per class of an evaluation, with its means and its tag."""
    sign = mark(evaluation)
    classes = [
        [name, f"{percent(iou)}{sign}", f"{percent(evaluation.accuracy[name])}{sign}", percent(evaluation.share[name])]
        for name, iou in evaluation.iou.items()
    ]
    mean = ["mean", figure(evaluation), figure(evaluation, "mean_accuracy"), ""]
    table = text_table(["class", "IoU", "accuracy", "pixel share"], classes, [mean])
    pixels, weighted = figure(evaluation, "pixel_accuracy"), figure(evaluation, "frequency_weighted_iou")
    return f"{evaluation.tag}\n{table}\npixel accuracy {pixels}, frequency-weighted IoU {weighted}"


def details_table(evaluation: Evaluation) -> str:
    """Draws the figures of an evaluation that its class table does not have; empty if it has none."""
    details, sign = evaluation.details, mark(evaluation)
    if details is None:
        return ""
    columns = {"95 % interval of IoU": {name: span(each) for name, each in details.iou_intervals.items()}}
    columns["Dice"] = {name: percent(value) for name, value in details.dice.items()}
    for each in details.boundary:
        columns[f"boundary IoU {each.width} px"] = {name: percent(value) for name, value in each.iou.items()}
        columns[f"boundary F {each.width} px"] = {name: percent(value) for name, value in each.f.items()}
    if details.instance_iou:
        columns["iIoU"] = {name: percent(value) for name, value in details.instance_iou.items()}
    rows = [[name, *(column.get(name, "") + sign for column in columns.values())] for name in evaluation.iou]
    means = [span(details.miou_interval), percent(details.mean_dice)]
    for each in details.boundary:
        means += [percent(each.miou), percent(each.mean_f)]
    means += [percent(_mean([details.instance_iou[name] for name in evaluation.iou if name in details.instance_iou]))]
    mean = ["mean", *(cell + sign for cell in means[: len(columns)])]
    groups = [
        [name, percent(value) + sign, percent(details.instance_iou.get(name, math.nan), "")]
        for name, value in details.category_iou.items()
    ]
    lines = [text_table(["class", *columns], rows, [mean])]
    if groups:
        lines.append(text_table(["category", "IoU", "iIoU"], groups))
    lines += [
        f"{each.view}: MaxF {percent(each.max_f)}{sign}, AP {percent(each.average_precision)}{sign}, precision "
        f"{percent(each.precision)}{sign}, recall {percent(each.recall)}{sign} at {each.threshold:.3f}"
        + (" (the server's figures are in bird's-eye view)" if each.view == PERSPECTIVE else "")
        for each in details.road
    ]
    lines.append(f"expected calibration error {percent(details.ece)}{sign}; intervals are by bootstrap over images")
    return "\n".join(lines)


def span(interval: Interval) -> str:
    """Formats an interval of fractions as `12.34 to 56.78 %`."""
    return "unknown" if math.isnan(interval.low) else f"{100 * interval.low:.2f} to {100 * interval.high:.2f} %"


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def candidate_table(record: AverageRecord) -> str:
    """Writes `candidate_cells` as Markdown, the winner in bold."""
    table, winner = candidate_cells(record), record.winner
    rows = [[f"**{name}**" if name == winner else name, *others] for name, *others in table.rows]
    return str(replace(table, rows=rows))


def candidate_cells(record: AverageRecord) -> Table:
    """Makes a table of the mIoU of each average on the images that decide and on the dataset's val, never mixed."""
    candidates = record.candidates
    columns = [[each.selection for each in candidates]]
    official = [each.official for each in candidates if each.official is not None]
    if official and record.select_on != "official_val":  # else both are of the same images
        columns.append(official)
    rows = []
    for each, *evaluations in zip(candidates, *columns, strict=True):
        rows.append([each.name, " ".join(each.members), *map(figure, evaluations)])
    protocols = [evaluations[0].protocol for evaluations in columns]
    splits = [f"{each.split} ({each.images})" for each in protocols]
    by = "kept by keep=ensemble" if record.keeps_ensemble else f"chosen by {splits[0]} (select_on={record.select_on})"
    lines = [f"{by}: {record.winner}"]
    lines += notes(evaluation for evaluations in columns for evaluation in evaluations)
    return Table(["weights", "of", *(f"mIoU on {split}" for split in splits)], rows, lines)


def fold_table(record: FoldsRecord) -> str:
    """Writes `fold_cells` as Markdown."""
    return str(fold_cells(record))


def fold_cells(record: FoldsRecord) -> Table:
    """Makes a table of the mIoU of each fold on its own part and on val, above the summary of each column."""
    columns = [kind for kind in KINDS if kind in record.summaries]
    rows = []
    for each in record.folds:
        evaluations = [getattr(each, kind) for kind in columns]
        cells = ["" if evaluation is None else figure(evaluation) for evaluation in evaluations]
        rows.append([str(each.fold), Path(each.run).name, each.state, *cells])
    for name in ("mean", "standard deviation", "95 % interval"):
        cells = [_summary_cell(name, record.summaries[kind], record.evaluations(kind)) for kind in columns]
        rows.append([name, "", "", *cells])
    text = [f"{TITLES[kind]}: {_folds_protocol(record.evaluations(kind))}" for kind in columns]
    if columns:
        text.append("interval: Student's t; folds share training images, so that it is rather too narrow")
    text += [f"fold {each.fold} failed: {each.why}; log: {each.log}" for each in record.folds if each.why]
    text += notes(evaluation for kind in columns for evaluation in record.evaluations(kind))
    return Table(["fold", "run", "state", *(TITLES[kind] for kind in columns)], rows, text)


def stage_table(records: Sequence[StageRecord]) -> str:
    """Writes `stage_cells` as Markdown."""
    return str(stage_cells(records))


def stage_cells(records: Sequence[StageRecord]) -> Table:
    """Makes a table of one row per stage: the mean of its folds on their own parts, its averages on val, its winner."""
    names = list(dict.fromkeys(each.name for record in records for each in record.averages.candidates))
    rows: list[list[str]] = []
    shown: list[Evaluation] = []
    for record in records:
        found = {each.name: each.reported for each in record.averages.candidates}
        own = record.folds.evaluations("own")
        cells = [figure(found[name]) if name in found else "" for name in names]
        mean = _summary_cell("mean", record.folds.summaries["own"], own)
        rows.append([record.stage, mean, *cells, record.averages.winner])
        shown += [*own, *found.values()]
    averages = records[0].averages
    split = averages.candidates[0].reported.protocol.split
    header = ["stage", "folds, each on its own part (mean)", *(f"{name} on {split}" for name in names), "winner"]
    return Table(header, rows, [f"mIoU; winners chosen by select_on={averages.select_on}", *notes(shown)])


def _folds_protocol(evaluations: Sequence[Evaluation]) -> str:
    """Describes the images that the folds were evaluated on, and how."""
    protocols = [evaluation.protocol for evaluation in evaluations]
    first, (split, *_) = protocols[0], protocols[0].splits
    name = f"each fold of {split.division} of train" if split.is_held_out else first.split
    counts = [each.images for each in protocols]
    images = ", ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))
    return f"{first.labels} {name} ({images} images), {first.inference}; {len(protocols)} folds"


def _summary_cell(name: str, summary: Summary, evaluations: Iterable[Evaluation]) -> str:
    """Formats one figure of a summary, marked if any evaluation in it is tainted; empty if the figure is NaN."""
    if name == "95 % interval":
        text = "" if math.isnan(summary.low) else f"{100 * summary.low:.2f} to {100 * summary.high:.2f} %"
    else:
        text = percent(summary.mean if name == "mean" else summary.deviation, absent="")
    return f"{text}{mark(*evaluations)}" if text else ""
