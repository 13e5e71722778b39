"""The figures beside IoU: in the record, in the table, and as a reliability diagram."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.metrics.calibration import CalibrationBin
from src.metrics.road import RoadFigures
from src.reports.evaluation_plots import plot_reliability
from src.reports.figures import draw_evaluation
from src.reports.tables import details_table
from src.runs.details import BoundaryFigures, Details, Interval
from src.runs.folder import RunFolder
from src.runs.records import Results, Taint
from src.runs.serial import read_record
from tests.support.records import evaluation

BINS = (CalibrationBin(0, math.nan, math.nan), CalibrationBin(30, 0.6, 0.5), CalibrationBin(70, 0.95, 0.9))
DETAILS = Details(
    dice={"a": 6 / 7, "b": 8 / 9},
    mean_dice=0.873,
    miou_interval=Interval(0.7, 0.85),
    iou_intervals={"a": Interval(0.6, 0.9), "b": Interval(0.75, 0.85)},
    category_iou={"all": 1.0, "none": math.nan},
    instance_iou={"b": 0.4321, "all": 0.8765},
    boundary=(BoundaryFigures(3, {"a": 0.51, "b": 0.52}, {"a": 0.61, "b": 0.62}, 0.515, 0.615),),
    ece=0.065,
    calibration=BINS,
    road=(RoadFigures("perspective", 0.91, 0.92, 0.93, 0.89, 0.01, 0.11, 0.5),),
)
BIRDS_EYE = RoadFigures("bird's-eye", 0.81, 0.82, 0.83, 0.79, 0.02, 0.21, 0.5)


def test_details_come_back_and_records_of_before_have_none(tmp_path: Path) -> None:
    run, described = RunFolder(tmp_path), replace(evaluation(), details=DETAILS)
    run.add_evaluation(described, finished=True)
    back = run.read_results().own.details
    assert back is not None
    assert replace(back, calibration=(), category_iou={}) == replace(DETAILS, calibration=(), category_iou={})
    assert back.calibration[1:] == BINS[1:]
    assert math.isnan(back.calibration[0].confidence)
    content = json.loads(run.results.read_text())
    for each in content["evaluations"].values():
        del each["details"]
    run.results.write_text(json.dumps(content))
    assert read_record(run.results, Results).own.details is None


def test_a_later_measurement_adds_details_to_the_trainings_own(tmp_path: Path) -> None:
    run, own = RunFolder(tmp_path), evaluation()
    run.add_evaluation(own, finished=True)
    run.add_evaluation(replace(own, miou=0.1, details=DETAILS), finished=False)
    assert run.read_results().own.miou == own.miou, "figures stay"
    wider = replace(DETAILS, boundary=(replace(DETAILS.boundary[0], width=5),), road=(BIRDS_EYE,))
    run.add_evaluation(replace(own, details=wider), finished=False)
    details = run.read_results().own.details
    assert details is not None
    assert [each.width for each in details.boundary] == [3, 5]
    assert details.road == (*DETAILS.road, BIRDS_EYE)


def test_the_table_has_every_figure_with_its_mark() -> None:
    table = details_table(replace(evaluation(), details=DETAILS))
    for part in (
        "60.00 to 90.00 %", "70.00 to 85.00 %", "85.71 %", "boundary IoU 3 px", "51.50 %", "boundary F 3 px", "61.50 %",
        "43.21 %", "87.65 %", "MaxF 91.00 %", "AP 92.00 %", "expected calibration error 6.50 %",
    ):  # fmt: skip
        assert part in table, part
    perspective, birds_eye = "at 0.500 (the server's figures are in bird's-eye view)", "bird's-eye: MaxF 81.00 %"
    both = details_table(replace(evaluation(), details=replace(DETAILS, road=(*DETAILS.road, BIRDS_EYE))))
    assert (both.count(perspective), both.count(birds_eye)) == (1, 1)
    tainted = details_table(replace(evaluation(taints=[Taint("trained", 1)]), details=DETAILS))
    for part in ("70.00 to 85.00 %†", "MaxF 91.00 %†", "error 6.50 %†"):
        assert part in tainted
    assert details_table(evaluation()) == ""


def test_the_reliability_diagram_lies_beside_the_images(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text("data:\n  classes:\n    a: [1, 2, 3]\n    b: [4, 5, 6]\n")
    described = replace(evaluation(), details=DETAILS)
    pictures = draw_evaluation(run, described, is_own=True)
    assert pictures["reliability"] == tmp_path / "evaluations" / described.key / "reliability.png"
    picture = np.asarray(Image.open(pictures["reliability"]))
    assert picture.std() > 10
    plot_reliability(replace(DETAILS, calibration=BINS[:1], ece=math.nan), tmp_path / "empty.png", "no pixels")
    assert (tmp_path / "empty.png").is_file()


@pytest.mark.parametrize("other", [{"inference": "flip"}, {"data": "f" * 12}, {"precision": "bf16-mixed"}])
def test_folders_of_other_protocols_differ(other: dict[str, str]) -> None:
    assert evaluation(**other).key != evaluation().key
    assert evaluation(**other).key.startswith("val-")
    assert evaluation(is_other_data=True, taints=[Taint("trained", 1)]).key == evaluation().key
