"""The plot of a sweep."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from src.reports.plotting import LINES, save_figure
from src.runs.marks import notes
from src.runs.sweep import Job, Sweep

MOST = 8  # levels that have a name each on the axis
WIDTH = 0.3  # of the points of a level, in levels


def plot_factors(sweep: Sweep, path: Path) -> None:
    """Draws one panel per factor: the mIoU of each finished job by the level of the factor, and the mean of a level."""
    jobs, effects = sweep.done, sweep.effects()
    factors = sweep.plan.factors
    figure, panels = plt.subplots(
        1, len(factors), figsize=(4.2 * len(factors), 4.2), layout="constrained", squeeze=False, sharey=True
    )
    for axes, factor in zip(panels[0], factors, strict=True):
        levels = list(dict.fromkeys(job.values.get(factor, "") for job in jobs))
        axes.grid(alpha=0.3, axis="y")
        if len(levels) > MOST and (numbers := _numbers(levels)):
            _scatter(axes, factor, {numbers[level]: level for level in levels}, jobs)
            continue
        for place, level in enumerate(levels):
            figures = [job.evaluation.miou for job in jobs if job.evaluation and job.values.get(factor, "") == level]
            # Beside each other in the order of the jobs, so that equal ones are seen.
            x = place + WIDTH * (np.linspace(-0.5, 0.5, len(figures)) if len(figures) > 1 else np.zeros(1))
            axes.plot(x, figures, "o", color=LINES[0], alpha=0.7, markersize=5)
            axes.hlines(np.mean(figures), place - 0.35, place + 0.35, color=LINES[1], linewidth=2)
        axes.set_xticks(range(len(levels)), levels, rotation=30 if max(map(len, levels)) > 8 else 0)
        share = f" (explains {100 * effects[factor]:.0f} %)" if factor in effects else ""
        axes.set(xlabel=f"{factor}{share}", xlim=(-0.6, len(levels) - 0.4))
    panels[0, 0].set_ylabel("val/miou")
    marked = notes(job.evaluation for job in jobs if job.evaluation)
    save_figure(figure, path, "Jobs (dots) and the mean of a level (lines)", marked)


def _numbers(levels: list[str]) -> dict[str, float]:
    """Returns the levels as numbers; empty if one is none."""
    try:
        return {level: float(level) for level in levels}
    except ValueError:
        return {}


def _scatter(axes: Axes, factor: str, levels: dict[float, str], jobs: list[Job]) -> None:
    """Draws the jobs by the number that each had; small and large ones on a logarithmic axis."""
    place = {level: number for number, level in levels.items()}
    points = [(place[job.values.get(factor, "")], job.evaluation.miou) for job in jobs if job.evaluation]
    axes.plot(*zip(*points, strict=True), "o", color=LINES[0], alpha=0.7, markersize=5)
    if min(levels) > 0 and max(levels) / min(levels) > 20:
        axes.set_xscale("log")
    axes.set_xlabel(factor)
