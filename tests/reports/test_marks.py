"""No tainted figure stands anywhere without its mark, and each mark is explained."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.folds import Split
from src.reports import tables
from src.reports.sweep import summary
from src.runs.folder import RunFolder
from src.runs.marks import notes
from src.runs.records import AverageRecord, Evaluation, StageRecord, Taint
from src.runs.sweep import note_job, read_sweep
from tests.support.records import average_record, candidate, evaluation, fold_record, folds_record

TAINT = Taint("chosen", 2)


def of_classes(tested: Evaluation, folder: Path) -> str:
    return tables.class_table(tested)


def of_averages(tested: Evaluation, folder: Path) -> str:
    clean = evaluation("test")
    return tables.candidate_table(average_record(candidate("mean of all", clean, tested), select_on="holdout"))


def of_averages_if_val_decides(tested: Evaluation, folder: Path) -> str:
    return tables.candidate_table(average_record(candidate("mean of all", tested, tested)))


def of_folds(tested: Evaluation, folder: Path) -> str:
    return tables.fold_table(folds_record(fold_record(0, tested), fold_record(1, evaluation())))


def of_stages(tested: Evaluation, folder: Path) -> str:
    folds = folds_record(fold_record(0, tested))
    averages = average_record(candidate("mean of all", tested, tested))
    return tables.stage_table([StageRecord("1", "aggregate", folds, averages, tested)])


def of_a_sweep(tested: Evaluation, folder: Path) -> str:
    run = RunFolder(folder / "run")
    run.add_evaluation(tested, finished=True)
    note_job(folder / "sweep" / "0", run=str(run.path))
    return summary(read_sweep(folder / "sweep"))


WRITERS = (of_classes, of_averages, of_averages_if_val_decides, of_folds, of_stages, of_a_sweep)


@pytest.mark.parametrize("write", WRITERS)
def test_no_tainted_figure_without_its_mark(write: Callable, tmp_path: Path) -> None:
    tested = evaluation(taints=[TAINT])
    text = write(tested, tmp_path)
    assert tested.miou == pytest.approx(0.775)
    figure = r"(77\.50 %|0\.7750)"
    marked = len(re.findall(figure + "†", text))
    assert marked > 0
    clean = 1 if write in (of_averages, of_folds) else 0  # the same figure on images that were not seen
    assert len(re.findall(figure, text)) == marked + clean
    assert re.search(rf"{TAINT}|† on images that the weights were trained or chosen on", text)


@pytest.mark.parametrize("write", WRITERS)
def test_no_mark_without_a_taint(write: Callable, tmp_path: Path) -> None:
    assert "†" not in write(evaluation(), tmp_path)


def test_the_folds_of_one_division_share_a_line() -> None:
    def on(split: str | Split, count: int) -> Evaluation:
        return evaluation(split, [Taint("trained", count)])

    def held_out(fold: int, num_folds: int) -> Split:
        return Split("fold", fold, num_folds, "group", seed=42)

    given = [on("val", 4), on(held_out(10, 12), 5), on(held_out(9, 12), 7)]
    assert notes([*given, given[0], on(held_out(0, 2), 9)]) == [
        "† fold 0 of 2 (by group, seed 42) of train: weights were trained on 9 of these images",
        "† folds 9 10 of 12 (by group, seed 42) of train: weights were trained on 7, 5 of these images",
        "† val: weights were trained on 4 of these images",
    ]
    assert notes([on("val", 4), on("val", 2), evaluation(taints=[TAINT])]) == [
        "† val: weights were chosen on 2 of these images",
        "† val: weights were trained on 2, 4 of these images",
    ]


def test_averages_on_val_stand_in_one_column_if_val_decides() -> None:
    record = average_record(candidate("best run", evaluation(), evaluation()))
    assert tables.candidate_table(record).splitlines()[0] == "| weights | of | mIoU on val (2) |"
    other = AverageRecord("holdout", record.winner, record.candidates)
    assert tables.candidate_table(other).splitlines()[0] == "| weights | of | mIoU on val (2) | mIoU on val (2) |"
