"""A run folder without weights is given to another configuration; one with weights, or in use, is not."""

import errno
import fcntl
import json
import multiprocessing
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from src import train
from src.config.complete import Prepared
from src.config.open import open_run
from src.errors import UserError
from src.files import claim, write_json
from src.runs.folder import RunFolder
from src.runs.records import Results
from tests.support.paths import TINY
from tests.support.processes import assert_same_weights, is_free, wait_until
from tests.support.records import evaluation

MENDED = ("trainer.max_epochs=2", "trainer.log_every_n_steps=2", "callbacks.panels.every_n_epochs=2")


WRONG = (
    "optimizer.lr=1e30", "trainer.log_every_n_steps=1", "data.dataset.num_train=8", "data.num_folds=2", "data.fold=0",
    "data.fold_gap=0",
)  # fmt: skip


class StoppedError(Exception):
    """Ends a command before it trains."""


@pytest.fixture
def opened(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The run folder `a`, which was opened, and whose training did not begin."""

    def stop(*_: object, **__: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(train, "build", stop)
        with pytest.raises(StoppedError):
            cli("train", *TINY, *WRONG, f"runs={tmp_path}", "name=a")
    return RunFolder(tmp_path / "a")


@pytest.fixture
def failed(fails, tmp_path: Path) -> RunFolder:
    """The run folder `a`, whose learning rate no network survives; a kill after validation would leave its panel."""
    assert fails("train", *TINY, *WRONG, f"runs={tmp_path}", "name=a").startswith("train/loss is not finite")
    (tmp_path / "a" / "panels").mkdir()
    (tmp_path / "a" / "panels" / "epoch_0001.png").write_bytes(b"")
    return RunFolder(tmp_path / "a")


def files(run: RunFolder) -> dict[str, bytes]:
    paths = (path for path in run.path.rglob("*") if path.is_file())
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in paths}


def figures(run: RunFolder) -> list[dict[str, str]]:
    """Rows of metrics.csv without figures of time and memory."""
    header, *rows = (line.split(",") for line in run.metrics.read_text().splitlines())
    kept = [
        {key: text for key, text in zip(header, row, strict=True) if "_s" not in key and "memory" not in key}
        for row in rows
    ]
    assert kept
    return kept


@pytest.mark.e2e
def test_another_configuration_gets_the_folder(cli, fails, failed: RunFolder, tmp_path: Path) -> None:
    """It trains as in a folder of its own; the log and the sessions stay."""
    before = failed.read_environment()
    assert {"metrics.csv", "folds/train.txt", "panels/epoch_0001.png", "exposure.json"} <= files(failed).keys()
    cut = failed.path / "checkpoints" / ".last.1.tmp.ckpt"  # as a kill leaves it
    cut.parent.mkdir(exist_ok=True)
    cut.write_bytes(b"")
    for name in ("a", "b"):
        cli("train", *TINY, *MENDED, f"runs={tmp_path}", f"name={name}")
    fresh = RunFolder(tmp_path / "b")
    assert_same_weights(failed.path, fresh.path)
    assert figures(failed) == figures(fresh)
    assert files(failed).keys() - {"checkpoints/.last.1.tmp.ckpt"} == files(fresh).keys()
    for name in ("identity.json", "exposure.json"):
        assert files(failed)[name] == files(fresh)[name]
    assert OmegaConf.load(failed.config).optimizer == OmegaConf.load(fresh.config).optimizer
    after = failed.read_environment()
    assert after["id"] != before["id"], "W&B would go on with the run that failed"
    assert after["sessions"][:1] == before["sessions"]
    assert len(after["sessions"]) == 2
    assert "lr 1e+30" in (failed.path / "train.log").read_text()
    assert "a holds a run of another configuration" in fails("train", *TINY, f"runs={tmp_path}", "name=a", "seed=7")


def test_a_folder_that_another_process_made_its_own_meanwhile(
    fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens between the opening of a folder and its lock; the files of that process stay."""

    def open_twice(prepared: Prepared) -> tuple[RunFolder, DictConfig]:
        found, other = open_run(prepared), replace(prepared, config=prepared.config.copy())
        other.config.seed = 7
        open_run(other)
        return found

    monkeypatch.setattr(train, "open_run", open_twice)
    message = fails("train", *TINY, f"runs={tmp_path}", "name=a")
    assert message.startswith(f"{tmp_path}/a holds a run of another configuration (seed: 7 -> 0)")
    assert OmegaConf.load(tmp_path / "a" / "config.yaml").seed == 7
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_weights_are_not_given_up(fails, opened: RunFolder, tmp_path: Path) -> None:
    """This holds for the weights of an unfinished run, and for those of a finished run even if they were removed."""
    opened.last.parent.mkdir(exist_ok=True)
    torch.save({}, opened.last)
    before = files(opened)
    message = fails("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")
    assert "a holds a run of another configuration (data.dataset.num_train: 8 -> 4, data.fing" in message
    assert "; give another name= (to src.crossval or src.stages, if one of these runs it), or resume=false" in message
    assert message.endswith(f"""and with it "init_from='{tmp_path}/a'" to start from its weights""")
    assert files(opened) == before
    opened.last.unlink()
    write_json(opened.results, Results(finished=True, evaluations={"own": evaluation()}))
    assert "a holds a run of another" in fails("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")


def test_a_folder_that_a_process_trains_in_is_not_written_to(fails, opened: RunFolder, tmp_path: Path) -> None:
    """This holds even if there is no checkpoint yet."""
    before = files(opened)
    with opened.lock():
        message = fails("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")
    assert message.startswith(f"{opened.path}: another process is training in this run folder")
    assert files(opened) == before


@pytest.mark.e2e
def test_a_kill_in_between_does_no_harm(
    cli, failed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration goes first and comes last."""
    with monkeypatch.context() as patch:
        patch.setattr("src.config.open.write_text", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit) as stop:
            cli("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")
    assert stop.value.code == 9
    cli("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")
    assert OmegaConf.load(failed.config).trainer.max_epochs == 2
    assert json.loads(failed.identity.read_text())["trainer.max_epochs"] == 2
    assert len(figures(failed)) == 2


def test_evaluations_at_the_same_time_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation of a run that ends meanwhile neither loses nor replaces the training's own figure."""
    run, real, inside = RunFolder(tmp_path), RunFolder.read_results, threading.Event()

    def slow(self: RunFolder) -> Results:
        found = real(self)
        if threading.current_thread() is other:
            inside.set()
            time.sleep(0.3)
        return found

    monkeypatch.setattr(RunFolder, "read_results", slow)
    other = threading.Thread(target=lambda: run.add_evaluation(evaluation("test"), finished=False))
    other.start()
    assert inside.wait(10)
    run.add_evaluation(evaluation("val"), finished=True)
    other.join()
    results = run.read_results()
    assert results.finished
    assert [each.protocol.split for each in results.evaluations.values()] == ["val", "test"]


def test_a_folder_has_one_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.lock(), pytest.raises(UserError, match="another process is training in this run folder; wait for it"):
        run.lock()
    run.lock().close()


def test_clearing_keeps_the_log_and_the_sessions(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    claim(tmp_path, "name")
    run.note_session()
    before = run.read_environment()
    for path in (run.config, run.identity, run.metrics, run.log, tmp_path / "folds" / "train.txt"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    run.clear()
    assert files(run).keys() == {".streetseg", "environment.json", "train.log"}
    assert run.read_environment()["id"] != before["id"]
    assert run.read_environment()["sessions"] == before["sessions"]


def test_a_checkpoint_is_weights_once_it_is_written(tmp_path: Path) -> None:
    """A finished run had weights, even if they were removed."""
    run = RunFolder(tmp_path)
    run.last.parent.mkdir()
    (run.last.parent / ".last.1.tmp.ckpt").touch()
    assert not run.has_weights
    run.last.touch()
    assert run.has_weights
    with pytest.raises(UserError, match=r"checkpoint=best: no file .*best.ckpt; this run has last$"):
        run.checkpoint("best")
    assert run.checkpoint("last") == run.checkpoint(str(run.last)) == run.last
    run.last.unlink()
    write_json(run.results, Results(finished=True, evaluations={"own": evaluation()}))
    assert run.has_weights


def test_colours_come_from_the_configuration(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text(OmegaConf.to_yaml(OmegaConf.create({"data": {"classes": {"sky": [70, 130, 180]}}})))
    assert run.palette == {"sky": [70, 130, 180]}


def test_a_forked_process_does_not_share_a_lock(tmp_path: Path) -> None:
    """Data processes are forked while the training holds its folder: one that outlives it must not hold it on."""
    with RunFolder(tmp_path).lock():
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
        with pytest.raises(UserError, match="another process is training"):
            RunFolder(tmp_path).lock()
    wait_until(partial(is_free, RunFolder(tmp_path)), 5)
    child.kill()
    child.join()


def test_a_file_system_without_locks_is_used_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    RunFolder(tmp_path).lock().close()
    assert "this file system has no locks; do not start the same command twice" in caplog.text
