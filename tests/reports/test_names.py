"""Names of classes and runs are drawn as they are: `$` begins no formula, `_` hides no line."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from src.reports import evaluation_plots, plotting
from src.reports.plotting import draw_legend, plt
from src.reports.tables import markdown, text_table
from tests.support.records import MATRIX, evaluation

NAMES = ["$x_1$", "_road"]
PALETTE = {name: [10, 20, 30] for name in NAMES}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(evaluation_plots, "save_figure", lambda figure, *_: figures.append(figure))
    return figures


def test_a_dollar_begins_no_formula(drawn: list[Figure]) -> None:
    found = evaluation(matrix=MATRIX, classes=NAMES)
    evaluation_plots.plot_classes(found, PALETTE, Path(), "run$1$")
    evaluation_plots.plot_confusion(found, Path(), "run$1$")
    evaluation_plots.plot_shares(found, PALETTE, Path(), "run$1$")
    for figure in drawn:
        figure.canvas.draw()
        texts = [
            text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts)
        ]
        assert any(text.get_text() == "$x_1$" for text in texts)
        assert not any(text.get_parse_math() for text in texts if text.get_text())
        assert not any("mathdefault" in text.get_text() for text in texts)  # as labels of logarithmic axes
        plt.close(figure)


def test_a_name_that_begins_with_an_underscore_is_in_the_legend() -> None:
    figure, axes = plotting.plt.subplots()
    for name in NAMES:
        axes.plot([0, 1], [0, 1], label=name)
    draw_legend(axes, axes.lines, [line.get_label() for line in axes.lines])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == NAMES
    plt.close(figure)


def test_tables_have_no_escape_codes_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # ipykernel sets it
    assert "\x1b" not in text_table(["class", "IoU"], [["a", "1"]])


def test_markdown_cells_hold_bars_and_no_html() -> None:
    assert markdown(["class"], [["a|b"], ["<b>"]]).splitlines()[2:] == ["| a\\|b |", "| \\<b> |"]
