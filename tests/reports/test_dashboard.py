"""Figures, tables and marks in W&B, read back from the files that it writes without a network."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from omegaconf import OmegaConf
from PIL import Image

from src.callbacks import wandb_logger
from src.callbacks.wandb_logger import WandbDashboard, build_wandb_logger
from src.config.dashboards import grouped, publish, tags
from src.processes import children
from src.reports.dashboard import (
    Description,
    Publication,
    confusion_shares,
    fold_figures,
    marked_figures,
    stage_figures,
)
from src.runs.folder import RunFolder
from src.runs.records import StageRecord, Taint
from tests.support.fake_commands import THREE_FOLDS, TWO_STAGES, FakeFolds, FakeStages
from tests.support.paths import CONF, TINY
from tests.support.records import average_record, candidate, evaluation, fold_record, folds_record
from tests.support.wandb_files import config, exit_code, run_record, summary

TAINT = Taint("trained", 2)


def open_logger(folder: Path, **options: str) -> WandbDashboard:
    RunFolder(folder).note_session()
    return build_wandb_logger(str(folder), "p", None, "offline", **options)


@pytest.mark.parametrize("taints", [(), (TAINT,)])
def test_figures_tables_and_marks_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taints: tuple) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.setup()  # as after an earlier run of this process, which was in no group
    monkeypatch.setenv("WANDB_RUN_GROUP", "the-group")
    picture = tmp_path / "confusion.png"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(picture)
    with open_logger(tmp_path, job_type="crossval") as logger:
        if taints:
            logger.mark(taints)
        figures = marked_figures("best", evaluation(taints=taints))
        logger.publish(Publication({"confusion": picture}, "a < b", figures))
    figures, run = summary(tmp_path), run_record(tmp_path)
    (copy,) = tmp_path.glob("wandb/offline-run-*/files/media/images/figures/confusion_*.png")
    assert copy.read_bytes() == picture.read_bytes()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/html/figures/table_*.html")
    assert table.read_text() == "<pre>a &lt; b</pre>"
    sign = " †" if taints else ""
    assert (run.run_group, run.job_type, run.display_name) == ("the-group", "crossval", f"{tmp_path.name}{sign}")
    assert (list(run.tags), run.notes) == ((["tainted"], f"† {TAINT}") if taints else ([], ""))
    expected = {f"best/{name}{sign.strip()}" for name in ("protocol", "miou", "pixel_accuracy", "fwiou")}
    assert {name for name in figures if name.startswith("best")} == expected
    assert figures[f"best/miou{sign.strip()}"] == pytest.approx(0.775)


def test_a_run_ends_with_its_training_by_its_true_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb_logger, "STOP_S", 40.0)  # a machine that is busy takes longer than a user may wait
    for code, error in {0: None, 1: RuntimeError("x"), 143: SystemExit(143)}.items():
        folder = tmp_path / str(code)
        folder.mkdir()
        with suppress(RuntimeError, SystemExit), open_logger(folder) as logger:
            logger.log_metrics({"train/loss": 1.0, "epoch": 0}, 0)
            if error is not None:
                raise error
        assert wandb.run is None, "the next job of a sweep has a run of its own"
        assert exit_code(folder) == code


def test_a_run_is_named_and_tagged_by_its_place_in_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "x" / "1_first" / "fold0"
    folder.mkdir(parents=True)
    with grouped("x"):
        logger = open_logger(folder)
    logger.describe(Description({"optimizer.lr": 0.1, "data.fold": 0}, ("camvid", "unet")))
    with logger:
        logger.log_metrics({"train/loss": 1.0, "epoch": 0}, 0)
    run = run_record(folder)
    assert (run.run_group, run.display_name) == ("x", "1_first/fold0")
    assert sorted(run.tags) == ["1_first", "camvid", "fold0", "unet"]
    assert config(folder) == {"optimizer.lr": 0.1, "data.fold": 0}


def test_tags_are_the_choices() -> None:
    choices = {"experiment": "r2/unet", "data": "camvid", "model": "unet", "backbone": "resnet18", "scale": "full"}
    cfg = OmegaConf.create({"choices": choices, "data": {"num_folds": None}})
    assert tags(cfg) == ("r2/unet", "camvid", "unet", "resnet18")
    cfg = OmegaConf.create({"choices": {"data": "streets", "scale": "tiny"}, "data": {"num_folds": 5, "fold": 2}})
    assert tags(cfg) == ("streets", "tiny", "fold2of5")


def test_the_confusion_is_in_per_cent_of_each_true_class() -> None:
    matrix = np.array([[3, 1, 0], [0, 4, 4], [0, 0, 0]])
    cells = confusion_shares(evaluation(matrix=matrix, classes=("a", "b", "c")))
    assert cells == [
        ("a", "a", 75), ("a", "b", 25), ("a", "c", 0), ("b", "a", 0), ("b", "b", 50), ("b", "c", 50),
        ("c", "a", 0), ("c", "b", 0), ("c", "c", 0),
    ]  # fmt: skip


def test_only_the_names_of_tainted_figures_have_marks() -> None:
    clean, tainted = evaluation(), evaluation(taints=[TAINT])
    assert marked_figures("x", clean)["x/miou"] == pytest.approx(0.775)
    assert all(name.endswith("†") for name in marked_figures("x", tainted))
    folds = folds_record(fold_record(0, clean, clean), fold_record(1, tainted))
    found = fold_figures(folds)
    assert found["own/miou_mean†"] == found["official/miou_mean"] == pytest.approx(0.775)
    assert len(found) == 8
    averages = average_record(candidate("best run", clean))
    winners = {"1": clean, "2": tainted}
    found = stage_figures([StageRecord(name, "aggregate", folds, averages, each) for name, each in winners.items()])
    assert found["1/miou"] == found["2/miou†"] == pytest.approx(0.775)


@pytest.mark.parametrize(("name", "count"), [("csv", 0), ("default", 1)])
def test_results_are_published_only_to_wandb(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    RunFolder(tmp_path).note_session()
    logger = OmegaConf.load(CONF / "logger" / f"{name}.yaml")
    publish(logger, tmp_path, "crossval", {}, "a table", {"own/miou_mean": 0.5})
    publish(None, tmp_path, "aggregate", {}, "a table", {})
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == count
    if count:
        assert run_record(tmp_path).job_type == "crossval"
        assert summary(tmp_path)["own/miou_mean"] == 0.5


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("kind", "pictures", "figures"),
    [
        ("crossval", {"folds", "history"}, {"own/miou_mean": (10 / 70 + 11 / 69 + 12 / 68) / 3}),
        ("stages", {"averages", "progress", "history"}, {"1_first/miou": 0.775, "2_second/miou": 0.775}),
    ],
)
def test_one_command_is_a_group_with_a_run_of_its_own(
    kind: str, pictures: set[str], figures: dict, cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, fake = {"crossval": (THREE_FOLDS, FakeFolds()), "stages": (TWO_STAGES, FakeStages())}[kind]
    groups = []

    def run_module(*arguments: Any) -> int:
        groups.append(os.environ["WANDB_RUN_GROUP"])
        return fake.run_module(*arguments)

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    monkeypatch.setattr(children, "run_module", run_module)
    command = [kind, *(word for word in words if not word.startswith("logger")), f"runs={tmp_path}", "name=x"]
    for _ in range(2):  # the second time there is nothing new to tell
        cli(*command)
    assert set(groups) == {"x"}
    assert "WANDB_RUN_GROUP" not in os.environ
    run, shown = run_record(tmp_path / "x"), summary(tmp_path / "x")
    assert (run.run_group, run.job_type, run.display_name) == ("x", kind, "x")
    assert {name.split("/")[1] for name in shown if name.startswith("figures")} == {*pictures, "table"}
    assert {name: shown[name] for name in figures} == pytest.approx(figures)
    assert len(json.loads((tmp_path / "x" / "environment.json").read_text())["sessions"]) == 2
    # Within another command, its group.
    with grouped("outer"):
        cli(*command[:-1], "name=y")
    assert run_record(tmp_path / "y").run_group == "outer"


@pytest.mark.e2e
def test_a_training_on_seen_images_is_marked_from_its_start(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its first weights have seen val, as the record of the run that they come from says."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    cli("train", *TINY, f"runs={tmp_path}", "name=first")
    path = tmp_path / "first" / "exposure.json"
    exposure = json.loads(path.read_text())
    exposure["trained"] += [f"streets-11/0/val_{number:05d}" for number in range(2)]
    path.write_text(json.dumps(exposure))
    note = "note: † figures of this training's validation: weights were trained on 2 of these images"
    assert note not in capfd.readouterr().out
    words = [word for word in TINY if not word.startswith("logger")]
    cli("train", *words, f"runs={tmp_path}", "name=second", f"init_from={tmp_path / 'first'}")
    assert note in capfd.readouterr().out
    assert note in (tmp_path / "second" / "train.log").read_text()
    run = run_record(tmp_path / "second")
    assert (run.display_name, run.job_type) == ("second †", "train")
    assert {"tainted", "streets", "unet_small"} <= set(run.tags)
    assert "best/miou†" in summary(tmp_path / "second")
