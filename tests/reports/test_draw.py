"""`src.draw`: every figure from folders alone, also after they were moved."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from src.draw import draw
from src.folds.intervals import summarise
from src.runs.folder import RunFolder, describe_evaluation

CONFIG = "data: {classes: {road: [128, 64, 128], car: [0, 0, 142], sky: [70, 130, 180]}}\n"
STAGES = {"1_first": 2, "2_second": 1}  # and the number of folds
OF_A_RUN = {"curves", "class_curves", "classes", "confusion", "shares"}


def evaluation(split: str) -> dict:
    protocol = {"labels": "x-3", "split": split, "images": 2, "inference": "whole", "precision": "32-true"}
    matrix = np.array([[3, 1, 0], [0, 4, 1], [2, 0, 9]])
    return describe_evaluation(matrix, ["road", "car", "sky"], protocol, {"name": "best", "epoch": 1, "step": 2})


def make_run(folder: Path, *evaluations: dict) -> dict:
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    for each in evaluations:
        run.add_evaluation(each, finished=each is evaluations[0])
    run.config.write_text(CONFIG)
    rows = ["step,epoch,train/loss_epoch,val/loss,val/miou,val/iou/road,val/iou/car,lr/head"]
    rows += [f"{10 * epoch},{epoch},{1 / (epoch + 1)},.5,{epoch / 9},.{epoch},.5,.1" for epoch in range(4)]
    run.metrics.write_text("\n".join(rows))
    return evaluations[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two stages, of two folds and of one, and in each a fold that failed."""
    records = []
    for stage, count in STAGES.items():
        folder = tmp_path / "runs" / "stages" / stage
        owns = [make_run(folder / f"fold{n}", evaluation(f"fold {n} of 3"), evaluation("val")) for n in range(count)]
        folds = [
            {"fold": n, "run": f"/elsewhere/fold{n}", "own": own, "official": evaluation("val")}
            for n, own in enumerate(owns)
        ]
        folds.append({"fold": count, "run": f"/elsewhere/fold{count}", "own": None, "official": None})
        summary = vars(summarise([own["miou"] for own in owns]))
        record = {"folds": folds, "summaries": {"own": summary, "official": summary}}
        (folder / "crossval.json").write_text(json.dumps(record))
        winner = make_run(folder / "aggregate", evaluation("val"))
        candidate = {"name": "best run", "selection": evaluation("folds 0 1 of 2"), "official": winner}
        averages = {"select_on": "fold_val", "winner": "best run", "candidates": [candidate]}
        (folder / "aggregate" / "aggregate.json").write_text(json.dumps(averages))
        records.append({"stage": stage, "run": "aggregate", "folds": record, "averages": averages, "winner": winner})
    (folder.parent / "stages.json").write_text(json.dumps(records))
    return tmp_path / "runs"


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_all_figures_of_all_kinds(cli, tree: Path, tmp_path: Path) -> None:
    count = cli("draw", f"folder={tree}")
    drawn = pictures(tree)
    later = {"classes_val", "confusion_val", "shares_val"}
    expected = {f"stages/{name}.png" for name in ("averages", "progress", "history")}
    for stage, folds in STAGES.items():
        expected |= {f"stages/{stage}/{name}.png" for name in ("folds", "history")}
        own = {"averages", "classes", "confusion", "shares"}
        expected |= {f"stages/{stage}/aggregate/{name}.png" for name in own}
        expected |= {f"stages/{stage}/fold{n}/{name}.png" for n in range(folds) for name in OF_A_RUN | later}
    assert set(drawn) == expected
    assert count == len(expected)
    # Again, from a folder that was moved: what reads other folders than its own.
    for name in drawn:
        (tree / name).unlink()
    shutil.move(tree, tmp_path / "archive")
    for folder in ("stages", "stages/1_first"):
        draw(tmp_path / "archive" / folder)
    again = pictures(tmp_path / "archive")
    assert len(again) == 3 + 2
    assert again == {name: drawn[name] for name in again}


def test_one_run_alone(cli, tree: Path) -> None:
    fold = tree / "stages" / "1_first" / "fold1"
    assert cli("draw", f"folder={fold}") == len(OF_A_RUN) + 3
    assert set(pictures(tree)) == {path.relative_to(tree).as_posix() for path in fold.glob("*.png")}


def test_a_run_that_was_evaluated_before_its_end(cli, tmp_path: Path) -> None:
    """`src.eval` of a training that was stopped: its evaluation is drawn, its curves are not."""
    make_run(tmp_path / "run", evaluation("val"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (tmp_path / "run" / "results.json").write_text(json.dumps({**results, "finished": False}))
    assert cli("draw", f"folder={tmp_path}") == 3
    assert set(pictures(tmp_path)) == {f"run/{name}_val.png" for name in ("classes", "confusion", "shares")}


def test_nothing_to_draw_is_told(fails, tmp_path: Path) -> None:
    message = fails("draw", f"folder={tmp_path}")
    assert message == f"folder={tmp_path}: no finished run, folds, average or stages there or beneath it"
