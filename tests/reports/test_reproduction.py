"""Tables of reports made anew: values by hand, the CSV and back, lines that were not run, the plot."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from src.reports.reproduction import TableRow, TableSpec, make_lines, plot_table, write_table
from src.reports.results_csv import read_rows, write_rows

SPEC = TableSpec(
    title="R9: a ladder",
    report="R9",
    labels={"low": "Low", "high": "High", "never": "Never"},
    reported={"low": {"miou": 0.3, "pixel_accuracy": 0.8}, "high": {"miou": 0.45}, "never": {}},
    compare=(("high", "low"), ("never", "low")),
)


def row(line: str, seed: int, miou: float, **others: float) -> TableRow:
    figures = {"pixel_accuracy": 0.7, "train_miou": math.nan, "gflops": math.nan, "minutes": 1.5, **others}
    texts = {
        "protocol": "val, whole",
        "date": "2026-11-26",
        "machine": "M",
        "commit": "c" * 40,
        "command": "x",
        "id": "y",
    }
    return TableRow(line, seed, miou, **figures, **texts)  # pyright: ignore[reportArgumentType]


ROWS = [row("low", 0, 0.30), row("low", 1, 0.34), row("high", 1, 0.62), row("high", 0, 0.58)]


def test_the_table_has_each_run_its_mean_its_spread_and_the_report() -> None:
    text = write_table(SPEC, ROWS).splitlines()
    assert text[0] == (
        "| row | mIoU, seeds 0, 1 | mean | sd | pixel accuracy | minutes per run | R9 mIoU | R9 pixel accuracy |"
    )
    assert text[2] == "| Low | .3000, .3400 | .3200 | .0283 | .7000 | 1.5 | .3000 | .8000 |"
    assert text[3] == "| High | .5800, .6200 | .6000 | .0283 | .7000 | 1.5 | .4500 |  |"
    assert text[4] == "| Never | not run |  |  |  |  |  |  |"
    # Two groups of two: t is 28 / 2.83 at 2 degrees of freedom, for which p is 2 (1 - F(9.9)) = .010.
    assert text[8].startswith("| High against Low | +28.0 | +15.8 to +40.2 | 0.010 | higher | +15.0 |")
    assert "Never against" not in "\n".join(text)
    assert text[-1] == f"Protocol: val, whole. Machine: M. Commit: {'c' * 10}. Date: 2026-11-26."


def test_a_report_without_figures_has_no_column() -> None:
    text = write_table(replace(SPEC, reported={"low": {"pixel_accuracy": 0.8}}), ROWS)
    assert "R9 mIoU" not in text
    assert "R9, points" not in text
    assert "| High against Low | +28.0 | +15.8 to +40.2 | 0.010 | higher |\n" in text


def test_one_seed_shows_nothing() -> None:
    text = write_table(SPEC, [row("low", 0, 0.3), row("high", 0, 0.6)])
    assert "| Low | .3000 | .3000 |  |" in text
    assert "against" not in text


def test_the_csv_holds_every_figure(tmp_path: Path) -> None:
    write_rows(tmp_path / "table.csv", TableRow, ROWS)
    again = read_rows(tmp_path / "table.csv", TableRow)
    assert write_table(SPEC, again) == write_table(SPEC, ROWS)
    assert [line.summary for line in make_lines(SPEC, again)] == [line.summary for line in make_lines(SPEC, ROWS)]


@pytest.mark.parametrize("gflops", [math.nan, 2.5])
def test_the_plot_has_a_panel_of_cost_only_if_it_was_counted(tmp_path: Path, gflops: float) -> None:
    path = tmp_path / "table.png"
    plot_table(SPEC, [row("low", 0, 0.3, gflops=gflops), row("high", 0, 0.6, gflops=2 * gflops)], path)
    with Image.open(path) as image:
        width = image.width
    assert (width > 1000) is not math.isnan(gflops)


def test_points_of_cost_have_the_numbers_of_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their labels would cover each other; the right one of two points is named first."""
    named: list[tuple[str, float, float]] = []
    monkeypatch.setattr("src.reports.plotting.name_points", lambda axes, points, size: named.extend(points))
    plot_table(SPEC, [row("low", 0, 0.3, gflops=2), row("high", 0, 0.6, gflops=4)], tmp_path / "table.png")
    assert named == [("2", 4, 0.6), ("1", 2, 0.3)]
