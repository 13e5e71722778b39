"""Tables for the terminal, as text, so that the log has them too."""

import math
from io import StringIO

from rich.console import Console
from rich.table import Table


def class_table(evaluation: dict) -> str:
    """Per-class IoU, accuracy and pixel share of an evaluation, its means and its protocol tag."""
    table = Table()
    table.add_column("class")
    for name in ("IoU", "accuracy", "pixel share"):
        table.add_column(name, justify="right")
    for name, iou in evaluation["iou"].items():
        table.add_row(name, _percent(iou), _percent(evaluation["accuracy"][name]), _percent(evaluation["share"][name]))
    table.add_section()
    table.add_row("mean", _percent(evaluation["miou"]), _percent(evaluation["mean_accuracy"]), "")
    others = (
        f"pixel accuracy {_percent(evaluation['pixel_accuracy'])}, "
        f"frequency-weighted IoU {_percent(evaluation['frequency_weighted_iou'])}"
    )
    return f"{evaluation['tag']}\n{render(table)}\n{others}"


def render(table: Table) -> str:
    console = Console(file=StringIO(), width=120, legacy_windows=False)
    console.print(table)
    return console.file.getvalue().rstrip()


def _percent(value: float | None) -> str:
    return "absent" if value is None or math.isnan(value) else f"{100 * value:.2f} %"
