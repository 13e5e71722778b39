"""Plots of evaluations, folds and stages: correlations against numpy's ranks, marks, and a picture of each."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from src.reports import evaluation_plots, fold_plots, plotting, run_plots
from src.reports.fold_plots import History
from src.runs.records import AverageRecord, Evaluation, Taint
from tests.support import records
from tests.support.records import average_record, candidate, fold_record, fold_split, folds_record

PALETTE = {"road": [128, 64, 128], "car": [0, 0, 142], "sky": [70, 130, 180], "bus": [0, 60, 100]}
MATRIX = np.array([[90_000, 400, 0, 0], [300, 2000, 10, 0], [0, 5, 700, 0], [0, 0, 0, 0]])  # no bus in the truth
ROWS = [{"step": 9, "epoch": 0, "train/loss_epoch": 1.0}, {"step": 19, "epoch": 1, "val/loss": 0.5, "val/miou": 0.4}]
TAINT = Taint("chosen", 3)


def evaluation(*taints: Taint, fold: int | None = None) -> Evaluation:
    split = "val" if fold is None else fold_split(fold)
    return records.evaluation(split, taints, matrix=MATRIX, classes=list(PALETTE))


def average(*taints: Taint) -> AverageRecord:
    names = ("best run", "mean of all", "averaged probabilities")
    return average_record(*(candidate(name, evaluation(), evaluation(*taints)) for name in names))


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """All text in the figures that are saved."""
    found: list[str] = []

    def close(figure: plt.Figure) -> None:
        found.extend(text.get_text() for text in figure.findobj(plt.Text))

    monkeypatch.setattr(plotting.plt, "close", close)
    yield found
    monkeypatch.undo()
    plt.close("all")


def drawn(path: Path) -> None:
    with Image.open(path) as image:
        assert np.asarray(image).std() > 1


@pytest.mark.parametrize("taints", [(), (TAINT,)])
def test_each_figure_is_drawn_and_marked_if_it_is_tainted(tmp_path: Path, texts: list[str], taints: tuple) -> None:
    tested = evaluation(*taints)
    folds = folds_record(fold_record(0, evaluation(fold=0), tested), fold_record(1, evaluation(fold=1)))
    history = [History("1", [(ROWS, evaluation())]), History("2", [(ROWS, tested)])]
    for name, draw in {
        "folds": lambda path: fold_plots.plot_folds(folds, path, "t"),
        "averages": lambda path: fold_plots.plot_averages([("1", average()), ("2", average(*taints))], path, "t"),
        "progress": lambda path: fold_plots.plot_progress([("1", evaluation()), ("2", tested)], PALETTE, path, "t"),
        "confusion": lambda path: evaluation_plots.plot_confusion(tested, path, "t"),
        "shares": lambda path: evaluation_plots.plot_shares(tested, PALETTE, path, "t"),
        "history": lambda path: fold_plots.plot_history(history, path, "t"),
        "classes": lambda path: evaluation_plots.plot_classes(tested, PALETTE, path, "t"),
    }.items():
        texts.clear()
        draw(tmp_path / f"{name}.png")
        drawn(tmp_path / f"{name}.png")
        assert any("†" in text for text in texts) == bool(taints), name
        assert any(str(TAINT) in text for text in texts) == bool(taints), name


def test_stages_follow_each_other(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[plt.Figure] = []
    monkeypatch.setattr(plotting.plt, "close", kept.append)
    stages = [History(name, [(ROWS, evaluation())] * 2) for name in ("1", "2")]
    fold_plots.plot_history(stages, tmp_path / "h.png", "t")
    loss, miou = kept[0].axes
    assert [list(line.get_xdata()) for line in miou.lines if len(line.get_xdata()) == 1] == [[2], [2], [4], [4]]
    assert [list(line.get_ydata()) for line in loss.lines if len(line.get_xdata()) == 1][:2] == [[1.0], [0.5]]


def test_bars_of_seen_images_carry_the_mark_themselves(tmp_path: Path, texts: list[str]) -> None:
    fold_plots.plot_averages([("1", average()), ("2", average(TAINT))], tmp_path / "a.png", "t")
    figure = f"{evaluation().miou:.3f}"
    assert texts.count(figure) == texts.count(f"{figure}†") == 3


@pytest.mark.parametrize("taints", [(), (TAINT,)])
def test_marks_stand_beside_the_figures(tmp_path: Path, texts: list[str], taints: tuple) -> None:
    sign, tested = "†" if taints else "", evaluation(*taints)
    miou, path = tested.miou, tmp_path / "x.png"
    fold_plots.plot_folds(folds_record(fold_record(0, evaluation(fold=0), tested)), path, "t")
    bars = [text for text in texts if text.removesuffix("†") == f"{miou:.3f}"]
    assert bars == [f"{miou:.3f}", f"{miou:.3f}{sign}"]
    assert {f"each fold's own part: mean {miou:.3f}", f"val: mean {miou:.3f}{sign}"} <= set(texts)
    texts.clear()
    fold_plots.plot_history([History("first", [(ROWS, evaluation())]), History("second", [(ROWS, tested)])], path, "t")
    # The loss has no mark: it is that of the training images, whatever the first weights have seen.
    assert [text for text in texts if text.startswith(("first", "second"))] == [
        "first",
        "second",
        "first",
        "second" + sign,
    ]
    texts.clear()
    fold_plots.plot_progress([("first", evaluation()), ("second", tested)], PALETTE, path, "t")
    assert {"first", f"second{sign}"} <= set(texts)
    texts.clear()
    evaluation_plots.plot_classes(tested, PALETTE, path, "t")
    assert {f"t: mIoU {miou:.4f}{sign}", f"mean\n{miou:.2f}{sign}"} <= set(texts)


def test_curves_of_classes_and_of_their_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[plt.Figure] = []
    monkeypatch.setattr(plotting.plt, "close", kept.append)
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,epoch,val/miou,val/iou/road,val/iou/car\n9,0,.35,.5,.2\n19,1,.5,.6,.4\n")
    run_plots.plot_class_curves(metrics, {"road": [128, 64, 128], "car": [0, 0, 142]}, tmp_path / "c.png", "t")
    drawn(tmp_path / "c.png")
    (axes,) = kept[0].axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines[:3] == [([1, 2], [0.5, 0.6]), ([1, 2], [0.2, 0.4]), ([1, 2], [0.35, 0.5])]
    # The legend follows the last values, and shows the colours of the classes.
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["road", "mean", "car"]
    patches = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    assert patches == [pytest.approx((128 / 255, 64 / 255, 128 / 255)), pytest.approx((0, 0, 142 / 255))]
    assert [text.get_text() for text in axes.texts] == ["best: epoch 2"]


def test_lines_of_many_classes_differ() -> None:
    styles = [plotting.line_style(index) for index in range(32)]
    assert len({(style["color"], str(style["linestyle"])) for style in styles}) == 32


def test_the_best_epoch_is_the_first_of_the_highest() -> None:
    rows = [{"step": 10 * n, "epoch": n, "val/miou": value} for n, value in enumerate((0.1, 0.4, 0.4, float("nan")))]
    assert run_plots.best_point(rows) == run_plots.BestPoint(step=10, epoch=2, miou=0.4)
    assert run_plots.best_point([{"step": 1, "epoch": 0, "train/loss": 1.0}]) is None


def test_names_beside_points_cover_nothing() -> None:
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    points = [("Pedestrian", 0.30, 0.30), ("SignSymbol", 0.34, 0.32), ("Fence", 0.31, 0.36), ("Pole", 0.99, 0.99)]
    points += [(f"class {n}", 0.5 + 0.02 * n, 0.6) for n in range(5)]
    axes.scatter(*zip(*((x, y) for _, x, y in points), strict=True))
    axes.plot([0, 1], [0.05, 1], "--")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    plotting.name_points(axes, points)
    figure.canvas.draw()
    assert sorted(text.get_text() for text in axes.texts) == sorted(name for name, *_ in points)
    boxes = [text.get_window_extent() for text in axes.texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1 + 1
        for _, x, y in points:
            assert not box.contains(*axes.transData.transform((x, y)))
    plt.close(figure)


def test_notes_stand_at_the_foot_and_titles_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[plt.Figure] = []
    monkeypatch.setattr(plotting.plt, "close", kept.append)
    evaluation_plots.plot_shares(evaluation(TAINT), PALETTE, tmp_path / "s.png", "t")
    assert kept[0].get_suptitle() == "t†"
    assert kept[0].get_supxlabel() == "† val: weights were chosen on 3 of these images"


def test_classes_missing_in_the_truth_are_left_out() -> None:
    points = evaluation_plots.shares_and_ious(evaluation())
    assert set(points) == {"road", "car", "sky"}
    assert points["road"][0] == pytest.approx(90_400 / MATRIX.sum())


def test_correlations_of_values_and_of_ranks() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 10.0]), np.array([1.0, 4.0, 4.0, 5.0])  # with a tie, whose rank is the mean
    pearson, spearman = evaluation_plots.correlations(x, y)
    assert pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert spearman == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 2.5, 2.5, 4])[0, 1])
    assert np.isnan(evaluation_plots.correlations(x, np.zeros(4))).all()


def test_the_confusion_has_counts_and_shares(tmp_path: Path, texts: list[str]) -> None:
    evaluation_plots.plot_confusion(evaluation(), tmp_path / "c.png", "t")
    assert {"90k", "400", "2k", "87", "100"} <= set(texts)
    # Each colour scale has its name and its numbers.
    assert {"pixels, logarithmic scale", "% of the truth's pixels", "10k"} <= set(texts)
