"""Folders of somebody else stay as they are; run folders run no code; damaged files are named, and remedied."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from src.config.saved import check_classes_named, check_targets, known_targets, read_config
from src.errors import UserError
from src.files import check_name, claim, sweep
from src.reports.figures import draw_or_note
from src.runs.folder import RunFolder
from src.runs.metrics_csv import read_metrics
from src.runs.records import Results
from src.runs.seal import fault, keep_before, seal
from src.runs.serial import read_record
from tests.support.paths import CONF, TINY


def test_a_folder_of_somebody_else_is_refused(fails, tmp_path: Path) -> None:
    for name in ("metrics.csv", "panels/a.png", "folds/train.txt"):
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text("mine")
    message = fails("train", *TINY, f"runs={tmp_path}", "name=project")
    assert "project: holds files that this program did not make" in message
    files = [path for path in (tmp_path / "project").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert all(path.read_text() == "mine" for path in files)


def test_folders_that_are_claimed(tmp_path: Path) -> None:
    claim(tmp_path / "new" / "run", "name")
    (tmp_path / "new" / "run" / "metrics.csv").touch()
    claim(tmp_path / "new" / "run", "name")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / ".lock").touch()  # as a kill leaves it
    claim(tmp_path / "cut", "name")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "beneath", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="give another out="):
            claim(path, "out")


@pytest.mark.parametrize("name", ["../escape", "/abs", ".", "..", "", "a/b", "a\n", "x" * 250])
def test_names_stay_inside_runs(name: str) -> None:
    with pytest.raises(UserError, match=r"^name="):
        check_name("name", name)


def test_only_temporary_files_of_this_program_are_swept(tmp_path: Path) -> None:
    theirs = (".exposure.tmp.json", "a.1.tmp.json", ".notes.1.tmp.tar.gz", ".x.y.tmp.json", ".lock")
    for name in (".exposure.12.tmp.json", ".curves.3.tmp.png", ".last.1.tmp.ckpt", *theirs):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(theirs)


HOSTILE: list[tuple[str, Any]] = [
    ("task._target_", "torch.load"),
    ("task.network.architecture._target_", "os.system"),
    ("task.loss.terms.x.loss._target_", "src.processes.children.run_module"),
    ("task.optimizer.optimizer._target_", "torch.optim.lr_scheduler.torch.load"),
    ("task.network._target_", "src.callbacks.wandb_logger.build_wandb_logger"),
    ("datamodule.dataset._target_", "src.losses.combined.torch.load"),
    ("datamodule.augmentation.steps", [{"deep": [{"_target_": "builtins.eval"}]}]),
    ("inference._target_", "src.task.SegmentationTask"),
    ("trainer._target_", "lightning.Trainer.fit"),
    ("task._target_", {"x": 1}),
    ("task.loss", "${oc.create:'{_target_: os.system}'}"),
    ("task.loss._target_", "${other}"),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_a_run_folder_runs_no_code(key: str, value: Any, tmp_path: Path) -> None:
    config = OmegaConf.create({"other": "os.system"})
    OmegaConf.update(config, key, value, force_add=True)
    with pytest.raises(UserError, match=r"is not a class that belongs there|is an interpolation"):
        check_targets(config, tmp_path / "config.yaml")


def test_classes_of_conf_are_allowed_in_their_places(tmp_path: Path) -> None:
    assert {"src.task.SegmentationTask", "torch.optim.SGD"} <= known_targets()
    for group, key in (("model", "task.network.architecture"), ("loss", "task.loss"), ("scheduler", "task.scheduler")):
        for file in (CONF / group).glob("[!_]*.yaml"):
            node = OmegaConf.create({"_target_": OmegaConf.load(file).get("_target_", "src.task.SegmentationTask")})
            config = OmegaConf.create({})
            OmegaConf.update(config, key, node, force_add=True)
            check_targets(config, tmp_path)
    check_targets(OmegaConf.create({"datamodule": {"x": {"_target_": "albumentations.RGBShift"}}}), tmp_path)


def test_callbacks_and_loggers_of_ones_own_are_built_only_by_their_training(tmp_path: Path) -> None:
    """The commands that open a run folder build neither, so that any class may stand there."""
    own = {"_target_": "own.package.Class"}
    config = OmegaConf.create({"callbacks": {"x": own}, "averaging": own, "logger": {"mine": own}})
    check_targets(config, tmp_path)
    for key in ("logger.wandb", "task.loss.terms.x.loss", "datamodule.dataset", "trainer"):
        OmegaConf.update(config, key, own, force_add=True)
        with pytest.raises(UserError, match=rf"{key}\._target_=own.package.Class is not a class that belongs there"):
            check_classes_named(config)
        with pytest.raises(UserError, match=rf"config.yaml: {key}\._target_=own"):
            check_targets(config, tmp_path / "config.yaml")
        OmegaConf.update(config, key, None)


def test_classes_of_ones_own_belong_to_the_group_that_names_them(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("terms: {mine: {loss: {_target_: own.package.Loss}}}")
    known_targets.cache_clear()
    monkeypatch.setattr("src.config.saved.CONF", tmp_path)
    node = {"_target_": "own.package.Loss"}
    check_classes_named(OmegaConf.create({"task": {"loss": node}}))
    with pytest.raises(UserError, match=r"in conf/$"):
        check_classes_named(OmegaConf.create({"datamodule": {"dataset": node}}))
    monkeypatch.undo()
    known_targets.cache_clear()


def test_a_training_refuses_a_class_that_its_run_could_not_be_evaluated_with(fails, tmp_path: Path) -> None:
    word = "loss.terms.ce.loss._target_=tests.support.helpers.Nothing"
    message = fails("train", *TINY, word, f"runs={tmp_path}", "name=a")
    assert "_target_=tests.support.helpers.Nothing is not a class that belongs there" in message
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "seed: 1", "\0", "{}"])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml: is damaged"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff", b'{"finished": true}'])
def test_a_damaged_record_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(UserError, match=r"results\.json: is damaged"):
        read_record(tmp_path / "results.json", Results)


@pytest.mark.parametrize("content", [b"", b"step,epoch\r\n1,0\r\n2", b"step,epoch\r\n1\r\n", b"\xff\n", b"step\nx\n"])
def test_damaged_figures_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv: is damaged"):
        read_metrics(tmp_path / "metrics.csv")


def sealed(path: Path, value: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save({"a": torch.full((20,), value)}, path)
    seal(path)
    return path


def test_every_flipped_byte_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = sealed(tmp_path / "a.ckpt", 1.0)
    assert fault(path) is None
    assert torch.load(path, weights_only=True)["a"][0] == 1
    content = path.read_bytes()
    for position in range(0, len(content) - 82, 7):
        other = tmp_path / f"{position}.ckpt"
        other.write_bytes(content[:position] + bytes([content[position] ^ 0x5A]) + content[position + 1 :])
        assert fault(other), position
    for length in (0, 10, len(content) // 2, len(content) - 1):
        other = tmp_path / f"cut{length}.ckpt"
        other.write_bytes(content[:length])
        assert fault(other), length


def test_the_checkpoint_before_takes_the_place_of_a_damaged_one(tmp_path: Path, caplog) -> None:
    run = RunFolder(tmp_path)
    keep_before(sealed(run.last, 1.0), run.before)
    os.replace(sealed(run.last.with_name("new.ckpt"), 2.0), run.last)
    run.mend()
    assert torch.load(run.last, weights_only=True)["a"][0] == 2
    run.last.write_bytes(b"")
    run.mend()
    assert "it is empty; the run continues from the checkpoint before it" in caplog.text
    assert torch.load(run.last, weights_only=True)["a"][0] == 1
    run.last.unlink()
    run.before.write_bytes(b"x")
    run.last.write_bytes(b"x")
    with pytest.raises(UserError, match="resume=false"):
        run.mend()


def test_pictures_that_fail_cost_no_result(tmp_path: Path, caplog) -> None:
    def fail() -> dict:
        raise MemoryError("too large")

    assert draw_or_note(tmp_path, fail) == {}
    assert "no pictures of them (MemoryError: too large); python -m src.draw" in caplog.text
