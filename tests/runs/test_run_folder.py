"""What becomes of a run folder whose run failed before its first checkpoint, when another configuration comes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from src import train
from src.config.complete import Prepared
from src.config.open import open_run
from src.runs.folder import RunFolder
from tests.support.paths import TINY
from tests.support.processes import assert_same_weights

MENDED = ("trainer.max_epochs=2", "trainer.log_every_n_steps=2", "callbacks.panels.every_n_epochs=2")


@pytest.fixture
def failed(fails, tmp_path: Path) -> RunFolder:
    """`a`: a rate that no network survives; figures were logged, and a kill after validation would leave a panel."""
    wrong = (
        "optimizer.lr=1e30", "trainer.log_every_n_steps=1", "data.dataset.num_train=8", "data.num_folds=2",
        "data.fold=0", "data.fold_gap=0",
    )  # fmt: skip
    assert fails("train", *TINY, *wrong, f"runs={tmp_path}", "name=a").startswith("train/loss is not finite")
    (tmp_path / "a" / "panels").mkdir()
    (tmp_path / "a" / "panels" / "epoch_0001.png").write_bytes(b"")
    return RunFolder(tmp_path / "a")


def files(run: RunFolder) -> dict[str, bytes]:
    paths = (path for path in run.path.rglob("*") if path.is_file())
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in paths}


def figures(run: RunFolder) -> list[dict[str, str]]:
    """Rows of metrics.csv without what is measured in seconds."""
    header, *rows = (line.split(",") for line in run.metrics.read_text().splitlines())
    kept = [{key: text for key, text in zip(header, row, strict=True) if "_s" not in key} for row in rows]
    assert kept
    return kept


def test_another_configuration_gets_the_folder(cli, fails, failed: RunFolder, tmp_path: Path) -> None:
    """And trains as in a folder of its own; the log and the sessions stay."""
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
    """Between the opening of a folder and its lock; what that process wrote stays."""

    def opened(prepared: Prepared) -> tuple[RunFolder, DictConfig]:
        found, other = open_run(prepared), prepared.config.copy()
        other.seed = 7
        open_run(replace(prepared, config=other))
        return found

    monkeypatch.setattr(train, "open_run", opened)
    message = fails("train", *TINY, f"runs={tmp_path}", "name=a")
    assert message.startswith(f"{tmp_path}/a holds a run of another configuration (seed: 7 -> 0)")
    assert OmegaConf.load(tmp_path / "a" / "config.yaml").seed == 7
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_weights_are_not_given_up(fails, failed: RunFolder, tmp_path: Path) -> None:
    """Neither those of a run that is under way, nor a finished one's that were removed."""
    failed.last.parent.mkdir(exist_ok=True)
    torch.save({}, failed.last)
    before = files(failed)
    message = fails("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")
    assert "a holds a run of another configuration (data.dataset.num_train: 8 -> 4, data.fing" in message
    assert message.endswith(
        "; give another name= (to src.crossval or src.stages, if one of these runs it), or resume=false, to start "
        "beside it"
    )
    assert files(failed) == before
    failed.last.unlink()
    failed.results.write_text('{"finished": true, "evaluations": {}}')
    assert "a holds a run of another" in fails("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")


def test_a_folder_that_a_process_trains_in_is_not_written_to(fails, failed: RunFolder, tmp_path: Path) -> None:
    """Even if that has no checkpoint yet."""
    before = files(failed)
    with failed.lock():
        message = fails("train", *TINY, *MENDED, f"runs={tmp_path}", "name=a")
    assert message.startswith(f"{failed.path}: another process is training in this run folder")
    assert files(failed) == before


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
