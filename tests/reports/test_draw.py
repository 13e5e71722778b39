"""`src.draw` draws every figure from folders, even after they were moved."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from omegaconf import OmegaConf

from src.data.folds import Split
from src.draw import draw_all
from src.errors import UserError
from src.files import write_json
from src.reports.figures import draw
from src.runs.folder import AVERAGE, FOLDS, STAGES, RunFolder
from src.runs.records import Evaluation, StageRecord
from tests.support.records import average_record, candidate, evaluation, fold_record, fold_split, folds_record

CONFIG = "data: {classes: {road: [128, 64, 128], car: [0, 0, 142], sky: [70, 130, 180]}}\n"
NUM_FOLDS = {"1_first": 2, "2_second": 1}  # by stage
OF_A_RUN = {"curves", "class_curves", "classes", "confusion", "shares"}
MATRIX = np.array([[3, 1, 0], [0, 4, 1], [2, 0, 9]])


def on(*splits: Split | str) -> Evaluation:
    named = [Split(each) if isinstance(each, str) else each for each in splits]
    return evaluation(named, matrix=MATRIX, classes=["road", "car", "sky"])


def make_run(folder: Path, *evaluations: Evaluation) -> Evaluation:
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    for each in evaluations:
        run.add_evaluation(each, finished=each is evaluations[0])
    run.config.write_text(CONFIG)
    rows = ["step,epoch,train/loss_epoch,val/loss,val/miou,val/iou/road,val/iou/car,lr/head"]
    rows += [f"{10 * epoch},{epoch},{1 / (epoch + 1)},.5,{epoch / 9},.{epoch},.5,.1" for epoch in range(4)]
    run.metrics.write_text("\n".join([*rows, ""]))
    return evaluations[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two stages, of two folds and of one, and in each another fold that failed."""
    stages = []
    for stage, count in NUM_FOLDS.items():
        folder = tmp_path / "runs" / "stages" / stage
        folds = [
            fold_record(fold, make_run(folder / f"fold{fold}", on(fold_split(fold)), on("val")), on("val"))
            for fold in range(count)
        ]
        record = folds_record(*folds, fold_record(count, None, why="killed"))
        write_json(folder / FOLDS, record)
        winner = make_run(folder / "aggregate", on("val"))
        averages = average_record(candidate("best run", on(fold_split(0), fold_split(1)), winner), select_on="fold_val")
        write_json(folder / "aggregate" / AVERAGE, averages)
        stages.append(StageRecord(stage, "aggregate", record, averages, winner))
    write_json(tmp_path / "runs" / "stages" / STAGES, stages)
    return tmp_path / "runs"


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def draw_beneath(folder: Path) -> int:
    return draw_all(OmegaConf.create({"folder": str(folder)}))


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the texts and lines of figures in place of their pictures, which take ten times as long."""

    def save(self: Figure, path: Path, **options: object) -> None:
        lines = [line.get_xydata().tolist() for line in self.findobj(Line2D)]
        path.write_text(repr([*(text.get_text() for text in self.findobj(Text)), *lines]))

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.mark.usefixtures("sketched")
def test_all_figures_of_all_kinds(tree: Path, tmp_path: Path) -> None:
    count = draw_beneath(tree)
    drawn = pictures(tree)
    later = {"classes_val", "confusion_val", "shares_val"}
    expected = {f"stages/{name}.png" for name in ("averages", "progress", "history")}
    for stage, folds in NUM_FOLDS.items():
        expected |= {f"stages/{stage}/{name}.png" for name in ("folds", "history")}
        own = {"averages", "classes", "confusion", "shares"}
        expected |= {f"stages/{stage}/aggregate/{name}.png" for name in own}
        expected |= {f"stages/{stage}/fold{n}/{name}.png" for n in range(folds) for name in OF_A_RUN | later}
    assert set(drawn) == expected
    assert count == len(expected)
    # Again, from a moved folder, the figures that read other folders than their own.
    for name in drawn:
        (tree / name).unlink()
    shutil.move(tree, tmp_path / "archive")
    for folder in ("stages", "stages/1_first"):
        draw(tmp_path / "archive" / folder)
    again = pictures(tmp_path / "archive")
    assert len(again) == 3 + 2
    assert again == {name: drawn[name] for name in again}


def test_only_the_run_that_is_given(cli, tree: Path) -> None:
    fold = tree / "stages" / "1_first" / "fold1"
    assert cli("draw", f"folder={fold}") == len(OF_A_RUN) + 3
    assert set(pictures(tree)) == {path.relative_to(tree).as_posix() for path in fold.glob("*.png")}


@pytest.mark.usefixtures("sketched")
def test_an_unfinished_run_that_was_evaluated(tmp_path: Path) -> None:
    """`src.eval` of a training that was stopped: its evaluation is drawn, its curves are not."""
    run = RunFolder(tmp_path / "run")
    make_run(run.path, on("val"))
    run.results.unlink()
    run.add_evaluation(on("val"), finished=False)
    assert draw_beneath(tmp_path) == 3
    assert set(pictures(tmp_path)) == {f"run/{name}_val.png" for name in ("classes", "confusion", "shares")}


@pytest.mark.usefixtures("sketched")
def test_files_of_a_fold_have_short_names(tmp_path: Path) -> None:
    """The split of a fold is a long text, of which only its name is in the names of the files."""
    make_run(tmp_path / "run", on("val"), on(fold_split(0)), on(Split("train", 0, 3, "group", seed=42)))
    expected = {f"{name}{split}" for name in ("classes", "confusion", "shares") for split in ("_fold", "_train", "")}
    assert set(draw(tmp_path / "run")) == expected | OF_A_RUN


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        draw_beneath(tmp_path)
    assert str(error.value) == f"folder={tmp_path}: no finished run, folds, average or stages in it or beneath it"
    with pytest.raises(UserError, match="nowhere: no such folder"):
        draw_beneath(tmp_path / "nowhere")
