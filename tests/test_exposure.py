"""What weights have seen is kept, handed on, and marked wherever a figure of it is told."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src import tables
from src.data.source import Sample
from src.data.streets import Streets
from src.exposure import Exposure, exposure_after, exposure_before, image_ids, note_exposure, write_exposure
from src.run import RunFolder, describe_evaluation
from src.sweep import POINTER, summary

TAINT = "weights were chosen on 2 of these images"
PROTOCOL = {"labels": "streets-11", "split": "val", "images": 2, "inference": "whole", "precision": "32-true"}


def evaluation(taints: tuple[str, ...] = (), split: str = "val") -> dict:
    checkpoint = {"name": "best", "epoch": 1, "step": 2}
    return describe_evaluation(np.array([[3, 1], [0, 4]]), ["a", "b"], {**PROTOCOL, "split": split}, checkpoint, taints)


def of_classes(told: dict, folder: Path) -> str:
    return tables.class_table(told)


def of_averages(told: dict, folder: Path) -> str:
    clean = evaluation(split="test")
    one = {"name": "mean of all", "members": ["x", "y"], "is_winner": True, "selection": clean, "official": told}
    return tables.candidate_table({"select_on": "holdout", "winner": "mean of all", "candidates": [one]})


def of_averages_where_val_decides(told: dict, folder: Path) -> str:
    one = {"name": "mean of all", "members": ["x", "y"], "is_winner": True, "selection": told, "official": told}
    return tables.candidate_table({"select_on": "official_val", "winner": "mean of all", "candidates": [one]})


def of_folds(told: dict, folder: Path) -> str:
    row = {"run": "r/fold0", "log": "l", "state": "done", "why": None, "official": None}
    folds = [{"fold": 0, "own": told, **row}, {"fold": 1, "own": evaluation(), **row}]
    own = {"count": 2, "mean": told["miou"], "deviation": 0.1, "low": 0.2, "high": 0.3}
    return tables.fold_table({"folds": folds, "summaries": {"own": own}})


def of_a_sweep(told: dict, folder: Path) -> str:
    run = RunFolder(folder / "run")
    run.add_evaluation(told, finished=True)
    (folder / "sweep" / "0").mkdir(parents=True)
    (folder / "sweep" / "0" / POINTER).write_text(str(run.path))
    return summary(folder / "sweep")


WRITERS = (of_classes, of_averages, of_averages_where_val_decides, of_folds, of_a_sweep)


@pytest.mark.parametrize("write", WRITERS)
def test_no_tainted_figure_without_its_mark(write: Callable, tmp_path: Path) -> None:
    told = evaluation((TAINT,))
    text = write(told, tmp_path)
    assert told["miou"] == pytest.approx(0.775)
    figure = r"(77\.50 %|0\.7750)"
    marked = len(re.findall(figure + "†", text))
    assert marked > 0
    clean = 1 if write in (of_averages, of_folds) else 0  # beside it stands the same figure of images not seen
    assert len(re.findall(figure, text)) == marked + clean
    assert re.search(rf"{TAINT}|† on images that the weights were trained or chosen on", text)


@pytest.mark.parametrize("write", WRITERS)
def test_no_mark_where_there_is_no_taint(write: Callable, tmp_path: Path) -> None:
    assert "†" not in write(evaluation(), tmp_path)


def test_the_tag_and_the_title_of_a_plot_say_it() -> None:
    told = evaluation((TAINT,))
    assert told["tag"] == f"streets-11 val (2 images), whole; TAINTED: {TAINT}"
    assert told["protocol"]["taints"] == [TAINT]
    assert tables.mark_title("run", told) == f"run\n† {TAINT}"
    assert tables.mark_title("run", evaluation()) == "run"
    assert "taints" not in evaluation()["protocol"]


def test_taints_count_the_images() -> None:
    seen = Exposure(frozenset("abc"), frozenset("cd"))
    assert seen.taints("xyz") == []
    assert seen.taints("ax") == ["weights were trained on 1 of these images"]
    assert seen.taints("abcd") == [
        "weights were trained on 3 of these images",
        "weights were chosen on 2 of these images",
    ]
    assert Exposure().taints("abc") == []
    assert (seen | Exposure(frozenset("z"))).trained == frozenset("abcz")


def test_names_hold_wherever_the_data_are() -> None:
    """Also in a join of datasets, and in another split."""
    streets = Streets(size=(64, 64), num_train=2, num_val=1)
    assert image_ids(streets, streets.samples("train")) == ["streets-11/train_00000", "streets-11/train_00001"]
    one = Sample("aachen_0", "aachen", Path("/data/cityscapes/leftImg8bit/train/aachen/aachen_0.png"))
    other = Sample("cityscapes/aachen_0", "x", Path("/mnt/all/cityscapes/leftImg8bit/train/aachen/aachen_0.png"))
    assert image_ids(streets, [one]) == image_ids(streets, [other]) == ["train/aachen/aachen_0.png"]


def test_what_was_seen_is_handed_on(tmp_path: Path) -> None:
    """A run is not tainted by what it trains on itself: its splits say that. Those that start from it are."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_exposure(first, ["a"], Exposure(frozenset("z"), frozenset("v")))
    assert exposure_before(first) == Exposure(frozenset("z"), frozenset("v"))
    note_exposure(second, ["b"], first / "checkpoints" / "best.ckpt")
    assert exposure_before(second) == exposure_after(first) == Exposure(frozenset("az"), frozenset("v"))
    assert exposure_after(second) == Exposure(frozenset("abz"), frozenset("v"))
    assert json.loads((second / "exposure.json").read_text())["trained"] == ["b"]


def test_a_source_that_does_not_tell_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        note_exposure(tmp_path / "run", ["b"], tmp_path / "weights.pth")
    assert "weights.pth does not tell what it was trained on" in caplog.text
    assert exposure_before(tmp_path / "run") == Exposure()
    assert exposure_after(tmp_path / "none") == Exposure()
