"""Records come back from JSON as they were; their texts in JSON are for readers."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.data.folds import Split
from src.files import plain, write_json
from src.runs.folder import RunFolder
from src.runs.records import AverageRecord, FoldsRecord, Leakage, LeakageRecord, Results, StageRecord, Taint
from src.runs.serial import is_written, read_record
from tests.support.records import average_record, candidate, evaluation, fold_record, fold_split, folds_record

TAINTS = (Taint("trained", 3), Taint("chosen", 2))
OWN = evaluation([fold_split(0), fold_split(1)], TAINTS)
FOLDS = folds_record(fold_record(0, OWN, evaluation()), fold_record(1, None, why="killed"))
AVERAGE = average_record(candidate("best run", OWN), candidate("mean of all", evaluation(), evaluation("test")))


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (Results(finished=True, evaluations={each.tag: each for each in (OWN, evaluation())}), Results),
        (LeakageRecord(("a", "b"), Leakage(frozenset("xyz"), frozenset("x"))), LeakageRecord),
        (FOLDS, FoldsRecord),
        (AVERAGE, AverageRecord),
        ((StageRecord("1", "aggregate", FOLDS, AVERAGE, OWN),) * 2, tuple[StageRecord, ...]),
    ],
)
def test_records_come_back_from_their_files(record: object, kind: type, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert not is_written(path, record)
    write_json(path, record)
    assert is_written(path, record)
    assert read_record(path, kind) == record


def test_an_evaluation_has_texts_and_their_fields() -> None:
    content = plain(evaluation(fold_split(1), TAINTS))
    texts = ["weights were trained on 3 of these images", "weights were chosen on 2 of these images"]
    split = "fold 1 of 3 (by group, seed 42) of train"
    assert list(content)[:3] == ["tag", "protocol", "checkpoint"]
    assert content["tag"] == f"streets-11 {split} (2 images), whole; TAINTED: {'; '.join(texts)}"
    assert content["protocol"] == {
        "labels": "streets-11",
        "split": split,
        "images": 2,
        "data": "0123456789ab",
        "is_other_data": False,
        "file": "",
        "inference": "whole",
        "precision": "32-true",
        "taints": texts,
        "fields": {
            "splits": [
                {"name": "fold", "fold": 1, "num_folds": 3, "by": "group", "gap": None, "seed": 42, "share": None}
            ],
            "taints": [{"how": "trained", "images": 3}, {"how": "chosen", "images": 2}],
        },
    }
    assert content["checkpoint"] == {"name": "best", "epoch": 1, "step": 2}
    assert content["iou"] == {"a": 0.75, "b": 0.8}
    assert content["matrix"] == [[3, 1], [0, 4]]
    assert "taints" not in plain(evaluation())["protocol"]


def test_tags_name_what_is_not_usual() -> None:
    assert evaluation(inference="whole at own size", precision="bf16-mixed", checkpoint="last").tag == (
        "streets-11 val (2 images), whole at own size, bf16-mixed, checkpoint last"
    )
    assert evaluation(Split("train")).tag == "streets-11 train (2 images), whole"


def test_figures_of_two_exported_files_stand_side_by_side(tmp_path: Path) -> None:
    files = [evaluation(precision="onnx int8", file=digits) for digits in ("1a2b3c4d", "5e6f7a8b")]
    for each in files:
        RunFolder(tmp_path).add_evaluation(each, finished=False)
    assert list(RunFolder(tmp_path).read_results().evaluations.values()) == files
    assert files[0].tag == "streets-11 val (2 images), whole, onnx int8 1a2b3c4d"
    assert files[0].key != files[1].key


def test_figures_that_do_not_exist_are_null(tmp_path: Path) -> None:
    record = Results(False, {"x": evaluation(matrix=np.array([[3, 1], [0, 0]]))})
    write_json(tmp_path / "results.json", record)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["evaluations"]["x"]["accuracy"] == {"a": 0.75, "b": None}
    back = read_record(tmp_path / "results.json", Results)
    assert np.isnan(back.own.accuracy["b"])
    assert is_written(tmp_path / "results.json", back)


def test_the_evaluation_of_the_training_stays(tmp_path: Path) -> None:
    """Whatever is evaluated later: again, or on other data of the same split, which the tag then names."""
    run, own = RunFolder(tmp_path), evaluation()
    run.add_evaluation(own, finished=True)
    other = np.array([[0, 4], [4, 0]])
    run.add_evaluation(run.read_results().place(evaluation(matrix=other)), finished=False)
    assert run.read_results().evaluations == {own.tag: own}
    placed = run.read_results().place(evaluation(matrix=other, data="ffffffffffff"))
    assert placed.tag == "streets-11 val (2 images), whole, other data ffffffffffff"
    run.add_evaluation(placed, finished=False)
    assert run.read_results().evaluations == {own.tag: own, placed.tag: placed}
    assert (
        json.loads((tmp_path / "results.json").read_text())["evaluations"][placed.tag]["protocol"]["data"] == "f" * 12
    )
    test = run.read_results().place(evaluation("test", data="eeeeeeeeeeee"))
    assert test.tag == "streets-11 test (2 images), whole", "no earlier evaluation of this split"
