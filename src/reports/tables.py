"""Tables for the terminal, as text, so that the log has them too."""

import math
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table

from src.data.folds import join_splits

MARK = "†"  # beside every figure on images that its weights were trained or chosen on


def mark(evaluation: dict) -> str:
    """The mark of a figure of this evaluation, or nothing."""
    return MARK if evaluation["protocol"].get("taints") else ""


def figure(evaluation: dict, key: str = "miou") -> str:
    """A figure of an evaluation as tables print it, in percent: a tainted one never without its mark."""
    return f"{_percent(evaluation[key])}{mark(evaluation)}"


def marked_figures(name: str, evaluation: dict) -> dict[str, float | str]:
    """The figures of an evaluation for a dashboard, `name/miou` and others; a mark is in the names of tainted ones."""
    keys = {"protocol": "tag", "miou": "miou", "pixel_accuracy": "pixel_accuracy", "fwiou": "frequency_weighted_iou"}
    return {f"{name}/{key}{mark(evaluation)}": evaluation[place] for key, place in keys.items()}


def fold_figures(record: dict) -> dict[str, float]:
    """The summaries of a `crossval.json` for a dashboard: `own/miou_mean` and others, marked as `marked_figures`."""
    found = {}
    for kind, summary in record["summaries"].items():
        sign = max(mark(each[kind]) for each in record["folds"] if each[kind] is not None)
        found |= {f"{kind}/miou_{key}{sign}": summary[key] for key in ("mean", "deviation", "low", "high")}
    return found


def stage_figures(records: Sequence[dict]) -> dict[str, float | str]:
    """The winners of a `stages.json` for a dashboard, marked as `marked_figures`."""
    return {key: value for each in records for key, value in marked_figures(each["stage"], each["winner"]).items()}


def mark_title(title: str, evaluation: dict) -> str:
    """A plot's title, with what taints the figures in it."""
    taints = evaluation["protocol"].get("taints", ())
    return f"{title}\n{MARK} {'; '.join(taints)}" if taints else title


def notes(evaluations: Iterable[dict]) -> list[str]:
    """What the marks in a table stand for: a line a protocol, none twice, the folds of one division in one."""
    found = {
        (evaluation["protocol"]["split"], taint)
        for evaluation in evaluations
        for taint in evaluation["protocol"].get("taints", ())
    }
    lines: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for split, taint in sorted(found):
        fold, count = re.match(r"fold (\d+)", split), re.search(r"\d+(?= of these)", taint)
        kind = re.sub(r"^fold \d+", "fold", split), re.sub(r"\d+(?= of these)", "{}", taint)
        lines.setdefault(kind, []).append((int(fold[1]) if fold else 0, split, count[0] if count else ""))
    text = []
    for (_, taint), each in lines.items():
        _, splits, counts = zip(*sorted(each), strict=True)
        text.append(f"{MARK} {join_splits(splits)}: {taint.format(', '.join(counts))}")
    return text


def class_table(evaluation: dict) -> str:
    """Per-class IoU, accuracy and pixel share of an evaluation, its means and its protocol tag."""
    table = Table()
    table.add_column("class")
    for name in ("IoU", "accuracy", "pixel share"):
        table.add_column(name, justify="right")
    sign = mark(evaluation)
    for name, iou in evaluation["iou"].items():
        accuracy, share = evaluation["accuracy"][name], evaluation["share"][name]
        table.add_row(name, f"{_percent(iou)}{sign}", f"{_percent(accuracy)}{sign}", _percent(share))
    table.add_section()
    table.add_row("mean", figure(evaluation), figure(evaluation, "mean_accuracy"), "")
    others = (
        f"pixel accuracy {figure(evaluation, 'pixel_accuracy')}, "
        f"frequency-weighted IoU {figure(evaluation, 'frequency_weighted_iou')}"
    )
    return f"{evaluation['tag']}\n{render(table)}\n{others}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [list(header), ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def candidate_table(record: dict) -> str:
    """Markdown of an `aggregate.json`: each average's mIoU on what decided and on the dataset's val, never mixed."""
    candidates = record["candidates"]
    columns = [key for key in ("selection", "official") if candidates[0][key] is not None]
    if record["select_on"] == "official_val":
        columns = ["selection"]  # the same images
    rows = []
    for each in candidates:
        name = f"**{each['name']}**" if each["is_winner"] else each["name"]
        rows.append([name, " ".join(each["members"]), *(figure(each[column]) for column in columns)])
    protocols = {column: candidates[0][column]["protocol"] for column in columns}
    splits = [f"{each['split']} ({each['images']})" for each in protocols.values()]
    text = [markdown(["weights", "of", *(f"mIoU on {split}" for split in splits)], rows), ""]
    text.append(f"chosen by {splits[0]} (select_on={record['select_on']}): {record['winner']}")
    text += notes(each[column] for column in columns for each in candidates)
    return "\n".join(text)


def fold_table(record: dict) -> str:
    """Markdown of a `crossval.json`: mIoU of each fold on its own part and on the dataset's val, each its column.

    Under each column the mean, standard deviation and 95 % interval of what is in it, and of how many folds.
    """
    folds, summaries = record["folds"], record["summaries"]
    columns = [kind for kind in ("own", "official") if kind in summaries]
    titles = {"own": "mIoU on its own part", "official": "mIoU on val"}
    rows = []
    for each in folds:
        figures = ["" if each[kind] is None else figure(each[kind]) for kind in columns]
        rows.append([str(each["fold"]), Path(each["run"]).name, each["state"], *figures])
    for name in ("mean", "standard deviation", "95 % interval"):
        cells = [_summary_cell(name, summaries[kind], [each[kind] for each in folds]) for kind in columns]
        rows.append([name, "", "", *cells])
    text = [markdown(["fold", "run", "state", *(titles[kind] for kind in columns)], rows), ""]
    for kind in columns:
        first = next(each[kind] for each in folds if each[kind] is not None)["protocol"]
        split = re.sub(r"^fold \d+", "each fold", first["split"])
        count = summaries[kind]["count"]
        images = [str(each[kind]["protocol"]["images"]) for each in folds if each[kind] is not None]
        told = images[0] if len(set(images)) == 1 else ", ".join(images)
        text.append(f"{titles[kind]}: {first['labels']} {split} ({told} images), {first['inference']}; {count} folds")
    if columns:
        text.append("interval: Student's t; folds share training images, so that it is rather too narrow")
    text += [f"fold {each['fold']} failed: {each['why']}; log: {each['log']}" for each in folds if each["why"]]
    text += notes(each[kind] for kind in columns for each in folds if each[kind] is not None)
    return "\n".join(text)


def stage_table(records: Sequence[dict]) -> str:
    """Markdown of a `stages.json`: a stage's folds on their own parts, its averages on val, its winner."""
    column = "selection" if records[0]["averages"]["candidates"][0]["official"] is None else "official"
    names = list(dict.fromkeys(each["name"] for record in records for each in record["averages"]["candidates"]))
    rows, told = [], []
    for record in records:
        found = {each["name"]: each[column] for each in record["averages"]["candidates"]}
        own = [each["own"] for each in record["folds"]["folds"]]
        cells = [figure(found[name]) if name in found else "" for name in names]
        mean = _summary_cell("mean", record["folds"]["summaries"]["own"], own)
        rows.append([record["stage"], mean, *cells, record["averages"]["winner"]])
        told += [*own, *found.values()]
    split = records[0]["averages"]["candidates"][0][column]["protocol"]["split"]
    header = ["stage", "folds, each on its own part (mean)", *(f"{name} on {split}" for name in names), "winner"]
    chosen = f"winners chosen by select_on={records[0]['averages']['select_on']}"
    return "\n".join([markdown(header, rows), "", f"mIoU; {chosen}", *notes(told)])


def _summary_cell(name: str, summary: dict, evaluations: Iterable[dict | None]) -> str:
    """A summary's figure, marked where any figure in it is."""
    if name == "95 % interval":
        known = summary["low"] == summary["low"] and summary["low"] is not None
        text = f"{100 * summary['low']:.2f} to {100 * summary['high']:.2f} %" if known else ""
    else:
        value = summary[name.replace("standard ", "")]
        text = "" if value is None or math.isnan(value) else _percent(value)
    marks = {mark(evaluation) for evaluation in evaluations if evaluation is not None}
    return f"{text}{max(marks)}" if text else ""


def render(table: Table) -> str:
    console = Console(file=StringIO(), width=120, legacy_windows=False)
    console.print(table)
    return console.file.getvalue().rstrip()


def _percent(value: float | None) -> str:
    return "absent" if value is None or math.isnan(value) else f"{100 * value:.2f} %"
