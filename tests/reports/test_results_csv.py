"""The CSV of all figures: a row per evaluation, read back as it was, and none twice; the zoo's list is current."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.collect_results import main
from scripts.list_zoo import is_current
from src.errors import UserError
from src.evaluation.publish import LARGEST
from src.reports.figures import find_folders
from src.reports.page.content import find_records
from src.reports.results_csv import ResultRow, collect, merge, read_rows, write_rows
from src.reports.zoo import EMPTY, read_entries, read_entry, zoo_table
from src.runs.folder import RunFolder
from src.runs.records import Taint
from src.runs.summary import places
from src.runs.zoo import ZOO
from tests.support.paths import ROOT
from tests.support.records import evaluation

CONFIG = "seed: 3\ndata: {name: camvid, classes: {a: [0, 0, 0]}}\nbackbone: {name: resnet18}\n"
CHOICES = "choices: {model: unet, experiment: r1/x, scale: tiny}\n"
SESSION = {"command": 'python -m src.train "a=[1,2]" data.root=/home/me/d', "started": "2026-11-26T08:00:00+00:00"}
SESSION |= {"ended": "2026-11-26T08:12:30+00:00", "git_commit": "c" * 40, "git_changes": False, "machine": "M, 2 cores"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs, one of them with two evaluations, and one that is not finished."""
    for name, splits in (("first", ("val", "test")), ("folds/second", ("val",)), ("third", ())):
        run = RunFolder(tmp_path / "runs" / name)
        for number, split in enumerate(splits):
            taints = [Taint("trained", 1)] if split == "test" else []
            matrix = np.array([[3, 1], [0, 4]]) if split == "val" else np.array([[3, 0], [0, 0]])
            run.add_evaluation(evaluation(split, taints, matrix=matrix), finished=number == 0)
        if not splits:
            run.add_evaluation(evaluation("val"), finished=False)
        run.config.write_text(CONFIG + CHOICES)
        run.environment.write_text(json.dumps({"id": name, "sessions": [SESSION]}))
    return tmp_path / "runs"


def test_each_evaluation_of_a_finished_run_is_a_row(runs: Path) -> None:
    rows, left_out = collect([runs])
    assert [(row.run, row.split, row.is_own) for row in rows] == [
        ("first", "val", True), ("first", "test", False), ("second", "val", True)
    ]  # fmt: skip
    assert left_out == [f"{runs / 'third'}: is not finished"]
    row = rows[0]
    assert row.miou == pytest.approx(0.775)
    assert (row.recipe, row.data, row.model, row.backbone) == ("r1/x scale=tiny", "camvid", "unet", "resnet18")
    assert (row.seed, row.minutes, row.date) == (3, 12.5, "2026-11-26")
    assert row.command == 'python -m src.train "a=[1,2]" data.root=DIR'
    assert rows[1].taints == "weights were trained on 1 of these images"
    assert json.loads(rows[1].iou) == {"a": 1.0, "b": None}
    with pytest.raises(UserError, match="no such folder"):
        collect([runs / "none"])


def test_rows_are_read_back_as_they_were(runs: Path, tmp_path: Path) -> None:
    rows = collect([runs])[0]
    rows = [replace(rows[0], minutes=math.nan, command='a "b", \n c'), *rows[1:]]
    write_rows(tmp_path / "runs.csv", ResultRow, rows)
    again = read_rows(tmp_path / "runs.csv", ResultRow)
    assert math.isnan(again[0].minutes)
    assert [replace(row, minutes=0.0) for row in again] == [replace(row, minutes=0.0) for row in rows]
    assert read_rows(tmp_path / "none.csv", ResultRow) == []
    (tmp_path / "runs.csv").write_text("run,seed\na,b\n")
    with pytest.raises(UserError, match=r"runs\.csv: is damaged"):
        read_rows(tmp_path / "runs.csv", ResultRow)


def test_the_same_measurement_is_never_there_twice(runs: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "results" / "all.csv"
    main([str(runs / "first"), "--out", str(out)])
    text = out.read_text()
    main([str(runs / "first"), str(runs / "first"), "--out", str(out)])
    assert out.read_text() == text
    main([str(runs), "--out", str(out)])
    assert out.read_text().startswith(text)
    assert "3 rows, 1 of them new" in capsys.readouterr().out
    rows = collect([runs])[0]
    moved = [replace(row, run="copied") for row in rows]  # the same run in another folder
    assert len(merge(rows, moved)) == 3
    assert len(merge(rows, [replace(rows[0], weights="float16"), replace(rows[0], id="other")])) == 5
    with out.open(newline="") as file:
        assert len(list(csv.reader(file))) == 4


def test_the_readme_lists_the_zoo() -> None:
    assert is_current(ZOO), "python scripts/list_zoo.py"
    assert "<!-- zoo: " in (ROOT / "README.md").read_text()
    assert zoo_table(()) == EMPTY


def test_every_network_of_the_zoo_is_whole() -> None:
    allowed = {"README.md", "config.yaml", "environment.json", "exposure.json", "results.json", "weights.safetensors"}
    for entry in read_entries(ZOO):
        run = RunFolder(ZOO / entry.name)
        assert {path.name for path in run.path.iterdir()} - {"folds"} == allowed, entry.name
        assert entry.size < LARGEST
        assert f"{entry.miou:.4f}" in (run.path / "README.md").read_text()
        assert not places(run.read_environment())
    with pytest.raises(UserError, match=r"has no weights\.safetensors"):
        read_entry(ROOT)


def test_links_to_runs_are_followed_once(tmp_path: Path) -> None:
    """By src.report, src.draw and the CSV; links in a circle end, and a run keeps its own path if it has one there."""
    run, folder = RunFolder(tmp_path / "elsewhere" / "run"), tmp_path / "runs" / "group"
    run.add_evaluation(evaluation(), finished=False)
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(run.path)
    (folder / "link2").symlink_to(run.path)
    (folder / "circle").symlink_to(tmp_path / "runs")
    own = RunFolder(tmp_path / "runs" / "own")
    own.add_evaluation(evaluation(), finished=False)
    (folder / "a").symlink_to(own.path)
    assert list(find_records([tmp_path / "runs"])) == [own.path, folder / "link"]
    assert find_folders(tmp_path / "runs") == [folder / "link", own.path]
    assert collect([tmp_path / "runs"])[1] == [
        f"{path}: is not complete (no config.yaml or environment.json)" for path in (own.path, folder / "link")
    ]
