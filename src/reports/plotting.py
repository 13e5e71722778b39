"""Ground of all plots: matplotlib without a display, and PNG files written whole or not at all."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from src.files import atomic_path
from src.runs.marks import MARK

matplotlib.rcParams["text.parse_math"] = False  # a `$` in the name of a class or a run is a letter

# Told apart on white by people who see red and green alike; those of the report's page (src/reports/html/core.js).
LINES = ("#0072b2", "#d55e00", "#009e73", "#b0559b", "#9a7d0a", "#2e9fd4", "#7a7a7a", "#c0392b")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "os^Dv<>P"
PLACES = [  # of a name beside its point, in points of 1/72 inch
    *((5, 4), (-5, 4), (5, -4), (-5, -4), (6, 0), (-6, 0), (0, 6), (0, -6)),
    *((12, 10), (-12, 10), (12, -10), (-12, -10), (0, 14), (0, -14)),
]
Palette = dict[str, list[int]]  # class name to RGB colour, 0 to 255, in the order of the ids


def rgb(colour: Sequence[int]) -> tuple[float, float, float]:
    """Returns a colour as matplotlib takes it, 0 to 1."""
    red, green, blue = (channel / 255 for channel in colour)
    return red, green, blue


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


def line_style(index: int) -> dict[str, Any]:
    """Returns colour, dashes and marker of the line of an index; the first 32 differ in colour or dashes."""
    return {
        "color": LINES[index % len(LINES)],
        "linestyle": DASHES[index // len(LINES) % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.3,
    }


def plot_classes_and_mean(
    axes: Axes, classes: Mapping[str, tuple[list, list]], mean: tuple[list, list], palette: Palette
) -> None:
    """Draws the IoU of each class, as x and y, and the mean in black.

    Lines have colours made for lines: those of classes are too like each other. The legend, to the right, shows the
    colour of the class beside its line; the highest at the end stands first.
    """
    lines = {name: axes.plot(x, y, **line_style(index))[0] for index, (name, (x, y)) in enumerate(classes.items())}
    (black,) = axes.plot(*mean, linewidth=2.5, marker="o", color="black")
    patches: dict[str, Patch | Line2D] = {
        name: Patch(facecolor=cast(Any, rgb(palette[name])), edgecolor="black") for name in lines
    }
    entries: list[tuple[str, tuple[Any, ...], float]] = [
        (name, (patches[name], line), _last(line)) for name, line in lines.items()
    ]
    entries.append(("mean", (black,), _last(black)))
    entries.sort(key=lambda entry: -entry[2])
    axes.set(ylabel="IoU", ylim=(0, 1))
    axes.grid(alpha=0.3)
    handler = {tuple: HandlerTuple(ndivide=None, pad=0.4)}
    names = [name for name, _, _ in entries]
    draw_legend(
        axes, [handles for _, handles, _ in entries], names,
        handler_map=handler, fontsize="small", handlelength=4.0, loc="center left", bbox_to_anchor=(1, 0.5),
    )  # fmt: skip


def _last(line: Line2D) -> float:
    """Returns the last value of a line that is a number, or -1."""
    values = [value for value in np.asarray(line.get_ydata(), dtype=float) if not np.isnan(value)]
    return values[-1] if values else -1.0


def draw_legend(axes: Axes, handles: Sequence[Any], names: Sequence[str], **style: Any) -> None:
    """Draws a legend with names as they are, also those that begin with `_`, which matplotlib leaves out."""
    legend = axes.legend(handles, [str(number) for number in range(len(names))], **style)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def name_points(axes: Axes, points: Sequence[tuple[str, float, float]], size: float = 7) -> None:
    """Writes names beside points (name, x, y): at the first of some places where a name covers nothing.

    Neither another name, nor a point, nor a line of the axes; else where it covers least. Call it last.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    taken = [_around(place, 4) for place in axes.transData.transform([(x, y) for _, x, y in points])]
    for line in axes.lines:
        ends = axes.transData.transform(line.get_xydata())
        taken += [
            _around(start + share * (end - start), 1)
            for start, end in itertools.pairwise(ends)
            for share in np.linspace(0, 1, 40)
        ]
    for name, x, y in points:
        best: tuple[float, Any, Bbox] | None = None
        for dx, dy in PLACES:
            how: dict[str, Any] = {
                "ha": ("right", "center", "left")[int(np.sign(dx)) + 1],
                "textcoords": "offset points",
            }
            va = ("top", "center", "bottom")[int(np.sign(dy)) + 1]
            text = axes.annotate(name, (x, y), (dx, dy), fontsize=size, va=va, **how)
            text.set_in_layout(False)
            box = text.get_window_extent(renderer)
            covered = sum(_overlap(box, other) for other in taken)
            covered += 10 * (box.width * box.height - _overlap(box, axes.bbox))  # what is outside
            if best is None or covered < best[0] - 1e-6:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
            if covered <= 0:
                break
        assert best is not None
        taken.append(best[2])


def _around(place: np.ndarray, margin: float) -> Bbox:
    return Bbox([place - margin, place + margin])


def _overlap(first: Bbox, second: Bbox) -> float:
    """Returns the area that two boxes share, in square pixels."""
    common = Bbox.intersection(first, second)
    return 0.0 if common is None else float(common.width * common.height)


def save_figure(figure: Figure, path: Path, title: str = "", notes: Sequence[str] = ()) -> None:
    """Writes a figure as PNG and closes it; `notes`, at its foot, explain the marks in it."""
    assert all(line.startswith(MARK) for line in notes)
    if title:
        figure.suptitle(title, fontsize=11)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=8, x=0.01, ha="left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
