"""What W&B is told, read back from the files that it leaves without a network."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image

from src.callbacks.wandb_logger import OneRunLogger, build_wandb_logger
from src.run import RunFolder, describe_evaluation
from src.tables import fold_figures, marked_figures, stage_figures
from tests.conftest import TINY

TAINT = "weights were trained on 2 of these images"
PROTOCOL = {"labels": "streets-11", "split": "val", "images": 2, "inference": "whole", "precision": "32-true"}


def evaluation(*taints: str) -> dict:
    checkpoint = {"name": "best", "epoch": 1, "step": 2}
    return describe_evaluation(np.array([[3, 1], [0, 4]]), ["a", "b"], PROTOCOL, checkpoint, taints)


def open_logger(folder: Path, **options: str) -> OneRunLogger:
    RunFolder(folder).note_session()
    return build_wandb_logger(str(folder), "p", None, "offline", **options)


def told(folder: Path) -> bytes:
    wandb.teardown()  # its own process writes the file, and may do so later
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return file.read_bytes()


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
        logger.publish({"confusion": picture}, "a < b", marked_figures("best", evaluation(*taints)))
    content = told(tmp_path)
    (copy,) = tmp_path.glob("wandb/offline-run-*/files/media/images/figures/confusion_*.png")
    assert copy.read_bytes() == picture.read_bytes()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/html/figures/table_*.html")
    assert table.read_text() == "<pre>a &lt; b</pre>"
    for text in ("the-group", "crossval", "best/miou", "0.775"):
        assert text.encode() in content
    for text in ("best/miou†", "best/protocol†", f"{tmp_path.name} †", "tainted", f"† {TAINT}"):
        assert (text.encode() in content) == bool(taints), text


def test_a_run_ends_with_its_training_by_its_true_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    codes = []
    for number, error in enumerate((None, RuntimeError)):
        folder = tmp_path / str(number)
        folder.mkdir()
        logger = open_logger(folder)
        end = logger.experiment.finish
        monkeypatch.setattr(logger.experiment, "finish", lambda exit_code, end=end: codes.append(exit_code) or end())
        if error is None:
            with logger:
                pass
        else:
            with pytest.raises(error), logger:
                raise error
        assert wandb.run is None, "the next job of a sweep has a run of its own"
    assert codes == [0, 1]


def test_marks_are_in_the_names_of_tainted_figures_alone() -> None:
    clean, tainted = evaluation(), evaluation(TAINT)
    assert marked_figures("x", clean)["x/miou"] == pytest.approx(0.775)
    assert all(name.endswith("†") for name in marked_figures("x", tainted))
    summary = {"count": 2, "mean": 0.775, "deviation": 0.0, "low": 0.7, "high": 0.8}
    folds = [{"own": clean, "official": clean}, {"own": tainted, "official": None}]
    found = fold_figures({"folds": folds, "summaries": {"own": summary, "official": summary}})
    assert found["own/miou_mean†"] == found["official/miou_mean"] == 0.775
    assert len(found) == 8
    found = stage_figures([{"stage": "1", "winner": clean}, {"stage": "2", "winner": tainted}])
    assert found["1/miou"] == found["2/miou†"] == pytest.approx(0.775)


def test_folds_are_a_group_with_a_run_of_their_summary(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src import crossval
    from tests.test_crossval import FOLDS, Processes

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    groups, fake = [], Processes()

    def start(*arguments: object) -> int:
        groups.append(os.environ["WANDB_RUN_GROUP"])
        return fake.start(*arguments)

    monkeypatch.setattr(crossval, "start", start)
    words = [word for word in FOLDS if not word.startswith("logger")]
    for _ in range(2):  # the second time there is nothing new to tell
        cli("crossval", *words, f"runs={tmp_path}", "name=x")
    assert set(groups) == {"x"}
    content = told(tmp_path / "x")
    assert b"own/miou_mean" in content
    assert len(list((tmp_path / "x").glob("wandb/offline-run-*/files/media/images/figures/*.png"))) == 2
    sessions = json.loads((tmp_path / "x" / "environment.json").read_text())["sessions"]
    assert len(sessions) == 2


def test_stages_are_a_group_with_a_run_of_their_own(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src import stages
    from tests.test_stages import TWO, Processes

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    groups, fake = [], Processes()

    def start(*arguments: object) -> int:
        groups.append(os.environ["WANDB_RUN_GROUP"])
        return fake.start(*arguments)

    monkeypatch.setattr(stages, "start", start)
    words = [word for word in TWO if not word.startswith("logger")]
    for _ in range(2):
        cli("stages", *words, f"runs={tmp_path}", "name=y")
    assert set(groups) == {"y"}
    assert "WANDB_RUN_GROUP" not in os.environ
    content = told(tmp_path / "y")
    for text in (b"stages", b"1_first/miou", b"2_second/miou", b"0.775"):
        assert text in content
    figures = [path.name for path in (tmp_path / "y").glob("wandb/offline-run-*/files/media/*/figures/*")]
    assert {name.rpartition("_")[0].rpartition("_")[0] for name in figures} >= {"averages", "progress", "history"}


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
    content = told(tmp_path / "second")
    for text in ("second †", "tainted", "best/miou†"):
        assert text.encode() in content
