"""Ground of all plots: matplotlib without a display, and PNG files written whole or not at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from src.files import atomic_path
from src.runs.marks import MARK

matplotlib.rcParams["text.parse_math"] = False  # a `$` in the name of a class or a run is a letter

Palette = dict[str, list[int]]  # class name to RGB colour, 0 to 255, in the order of the ids


def rgb(colour: Sequence[int]) -> tuple[float, ...]:
    """Returns a colour as matplotlib takes it, 0 to 1."""
    return tuple(channel / 255 for channel in colour)


def whole_ticks(axes: Axes) -> None:
    """Puts the ticks of the x axis, which counts epochs, on whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def plain_log_ticks(*axes: Axis) -> None:
    """Labels those of the axes that are logarithmic by plain numbers, such as 0.02."""
    for axis in axes:
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(NullFormatter())


def plot_classes_and_mean(
    axes: Axes, classes: Mapping[str, tuple[list, list]], mean: tuple[list, list], palette: Palette
) -> None:
    """Draws the IoU of each class, as x and y, in its colour, and the mean in black; the legend is to the right."""
    for name, (x, y) in classes.items():
        axes.plot(x, y, linewidth=1, marker=".", color=rgb(palette[name]), label=name)
    axes.plot(*mean, linewidth=2.5, marker="o", color="black", label="mean")
    axes.set(ylabel="IoU", ylim=(0, 1))
    axes.grid(alpha=0.3)
    name_lines(axes, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def name_lines(axes: Axes, **style: Any) -> None:
    """Draws the legend of all lines by their labels, also of those that begin with `_`, which matplotlib leaves out."""
    legend = axes.legend(axes.lines, [str(number) for number in range(len(axes.lines))], **style)
    for text, line in zip(legend.get_texts(), axes.lines, strict=True):
        text.set_text(line.get_label())


def save_figure(figure: Figure, path: Path, title: str = "", notes: Sequence[str] = ()) -> None:
    """Writes a figure as PNG and closes it; `notes`, below the title of the figure, explain the marks in it."""
    assert all(line.startswith(MARK) for line in notes)
    if title:
        figure.suptitle("\n".join([title, *notes]), fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
