"""The figures of folds and stages: correlations against scipy, marks, and a picture of each from made-up records."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from src.folds.intervals import summarise
from src.reports import fold_plots
from src.reports import run_plots as plots
from src.reports.run_plots import plot_classes
from src.reports.tables import mark_title
from src.runs.folder import describe_evaluation

PALETTE = {"road": [128, 64, 128], "car": [0, 0, 142], "sky": [70, 130, 180], "bus": [0, 60, 100]}
MATRIX = np.array([[90_000, 400, 0, 0], [300, 2000, 10, 0], [0, 5, 700, 0], [0, 0, 0, 0]])  # no bus in the truth
ROWS = [{"step": 9, "epoch": 0, "train/loss_epoch": 1.0}, {"step": 19, "epoch": 1, "val/loss": 0.5, "val/miou": 0.4}]
TAINT = "weights were chosen on 3 of these images"


def evaluation(taints: tuple[str, ...] = (), split: str = "val") -> dict:
    protocol = {"labels": "x-4", "split": split, "images": 3, "inference": "whole", "precision": "32-true"}
    return describe_evaluation(MATRIX, list(PALETTE), protocol, {"name": "best", "epoch": 1, "step": 2}, taints)


def average(*taints: str) -> dict:
    names = ("best run", "mean of all", "averaged probabilities")
    candidates = [{"name": name, "selection": evaluation(), "official": evaluation(taints)} for name in names]
    return {"select_on": "official_val", "winner": "best run", "candidates": candidates}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All text in the figures that are saved."""
    found: list[str] = []

    def close(figure: plt.Figure) -> None:
        found.extend(text.get_text() for text in figure.findobj(plt.Text))

    monkeypatch.setattr(fold_plots.plt, "close", close)
    yield found
    monkeypatch.undo()
    plt.close("all")


def drawn(path: Path) -> None:
    with Image.open(path) as image:
        assert np.asarray(image).std() > 1


@pytest.mark.parametrize("taints", [(), (TAINT,)])
def test_each_figure_is_drawn_and_marked_where_it_must(tmp_path: Path, texts: list[str], taints: tuple) -> None:
    fold = {"run": "r", "log": "l", "state": "done", "why": None, "own": evaluation(split="fold 0")}
    folds = [{"fold": 0, **fold, "official": evaluation(taints)}, {"fold": 1, **fold, "official": None}]
    summaries = {"own": vars(summarise([0.5, 0.6])), "official": vars(summarise([0.7]))}
    told = evaluation(taints)
    history = [("1", [(ROWS, evaluation())]), ("2", [(ROWS, told)])]
    for name, draw in {
        "folds": lambda path: fold_plots.plot_folds({"folds": folds, "summaries": summaries}, path, "t"),
        "averages": lambda path: fold_plots.plot_averages([("1", average()), ("2", average(*taints))], path, "t"),
        "progress": lambda path: fold_plots.plot_progress([("1", evaluation()), ("2", told)], PALETTE, path, "t"),
        "confusion": lambda path: fold_plots.plot_confusion(told, path, "t"),
        "shares": lambda path: fold_plots.plot_shares(told, PALETTE, path, "t"),
        "history": lambda path: fold_plots.plot_history(history, path, "t"),
        "classes": lambda path: plot_classes(told, PALETTE, path, mark_title("t", told)),
    }.items():
        texts.clear()
        draw(tmp_path / f"{name}.png")
        drawn(tmp_path / f"{name}.png")
        assert any("†" in text for text in texts) == bool(taints), name
        assert any(TAINT in text for text in texts) == bool(taints), name


def test_stages_follow_each_other(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[plt.Figure] = []
    monkeypatch.setattr(fold_plots.plt, "close", kept.append)
    stages = [("1", [(ROWS, evaluation()), (ROWS, evaluation())]), ("2", [(ROWS, evaluation())] * 2)]
    fold_plots.plot_history(stages, tmp_path / "h.png", "t")
    loss, miou = kept[0].axes
    assert [list(line.get_xdata()) for line in miou.lines if len(line.get_xdata()) == 1] == [[2], [2], [4], [4]]
    assert [list(line.get_ydata()) for line in loss.lines if len(line.get_xdata()) == 1][:2] == [[1.0], [0.5]]


def test_bars_of_seen_images_carry_the_mark_themselves(tmp_path: Path, texts: list[str]) -> None:
    fold_plots.plot_averages([("1", average()), ("2", average(TAINT))], tmp_path / "a.png", "t")
    figure = f"{evaluation()['miou']:.3f}"
    assert texts.count(figure) == texts.count(f"{figure}†") == 3


@pytest.mark.parametrize("taints", [(), (TAINT,)])
def test_marks_stand_beside_the_figures(tmp_path: Path, texts: list[str], taints: tuple) -> None:
    sign, told = "†" if taints else "", evaluation(taints)
    miou, path = told["miou"], tmp_path / "x.png"
    fold = {"fold": 0, "own": evaluation(split="fold 0"), "official": told}
    five = vars(summarise([miou]))
    fold_plots.plot_folds({"folds": [fold], "summaries": {"own": five, "official": five}}, path, "t")
    bars = [text for text in texts if text.removesuffix("†") == f"{miou:.3f}"]
    assert bars == [f"{miou:.3f}", f"{miou:.3f}{sign}"]
    assert {f"each fold's own part: mean {miou:.3f}", f"val: mean {miou:.3f}{sign}"} <= set(texts)
    texts.clear()
    fold_plots.plot_history([("first", [(ROWS, evaluation())]), ("second", [(ROWS, told)])], path, "t")
    # The loss is of the images that it is trained on, whatever they are.
    assert [text for text in texts if text.startswith(("first", "second"))] == [
        "first",
        "second",
        "first",
        "second" + sign,
    ]
    texts.clear()
    fold_plots.plot_progress([("first", evaluation()), ("second", told)], PALETTE, path, "t")
    assert {"first", f"second{sign}"} <= set(texts)
    texts.clear()
    plot_classes(told, PALETTE, path, "t")
    assert f"t\nmIoU {miou:.4f}{sign}" in texts


def test_curves_of_classes_and_of_their_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[plt.Figure] = []
    monkeypatch.setattr(plots.plt, "close", kept.append)
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,epoch,val/miou,val/iou/road,val/iou/car\n9,0,.35,.5,.2\n19,1,.5,.6,.4\n")
    plots.plot_class_curves(metrics, {"road": [128, 64, 128], "car": [0, 0, 142]}, tmp_path / "c.png", "t")
    drawn(tmp_path / "c.png")
    (axes,) = kept[0].axes
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert lines == {"road": ([1, 2], [0.5, 0.6]), "car": ([1, 2], [0.2, 0.4]), "mean": ([1, 2], [0.35, 0.5])}
    assert axes.lines[0].get_color() == pytest.approx((128 / 255, 64 / 255, 128 / 255))


def test_classes_that_the_truth_has_not_are_left_out() -> None:
    points = fold_plots.shares_and_ious(evaluation())
    assert set(points) == {"road", "car", "sky"}
    assert points["road"][0] == pytest.approx(90_400 / MATRIX.sum())


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.integers(0, 4, 12).astype(float)  # with ties
    pearson, spearman = fold_plots.correlations(x, y)
    assert pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(fold_plots.correlations(x, np.zeros(12))).all()


def test_the_confusion_is_told_as_counts_and_shares(tmp_path: Path, texts: list[str]) -> None:
    fold_plots.plot_confusion(evaluation(), tmp_path / "c.png", "t")
    assert {"90k", "400", "2k", "87", "100"} <= set(texts)
