"""Errors on the command line: one line each that says what to do, before anything is trained; bugs show tracebacks."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.errors import InstantiationException
from PIL import Image

from src.config.cli import launch
from tests.support.paths import ROOT, TINY
from tests.test_floors import COMMANDS

Fails = Callable[..., str]
CAMVID = (
    "data=camvid", "trainer=cpu", "logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false",
    "data.num_workers=0", "data.crop_size=[64,96]", "data.batch_size=2", "model.decoder_channels=[32,16,16,8,8]",
)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=unett"], "model=unett is unknown; the nearest are unet"),
        (["backbone=resnet15"], "backbone=resnet15 is unknown; the nearest are resnet152"),
        (["data=camvidd"], "data=camvidd is unknown; the nearest are camvid"),
        (["experiment=camvid_unet"], "experiment=camvid_unet is unknown; the nearest are camvid/unet_lite0, camvid"),
        (["optimzer.lr=1"], "optimzer.lr is not a key of this configuration; the nearest are optimizer.lr"),
        (["optimizer.lrr=1"], "optimizer.lrr is not a key of this configuration; the nearest are optimizer.lr"),
        (["optimizer=sgd", "optimizer.optimizer.momentu=1"], "optimizer.optimizer.momentu is not a key of this "
         "configuration; the nearest are optimizer.optimizer.momentum"),
        (["sede=1"], "sede is not a key of this configuration; the nearest are seed"),
        (["seed=-1"], "seed=-1: must be a whole number, at least 0"),
        (["data=camvid"], "data.root is not set; give data.root=... on the command line"),
        (["backbone.name=resnet19", "find_lr=true"], "find_lr is not a key of this configuration; the nearest are "),
    ],
)  # fmt: skip
def test_wrong_words(fails: Fails, arguments: list[str], message: str) -> None:
    assert fails("train", *arguments).startswith(message)


@pytest.mark.parametrize(
    ("command", "word", "nearest"),
    [
        ("eval", "checkpiont=last", "checkpoint"),
        ("predict", "inputt=x", "input"),
        ("draw", "foldr=runs", "folder"),
        ("aggregate", "select=holdout", "select_on"),
        ("crossval", "crossval.device=[0]", "crossval.devices"),
        ("find_lr", "lr_range.step=20", "lr_range.steps"),
    ],
)
def test_a_misspelt_key_of_any_command_is_one_line(fails: Fails, command: str, word: str, nearest: str) -> None:
    key = word.partition("=")[0]
    assert fails(command, word).startswith(f"{key} is not a key of this configuration; the nearest are {nearest}")


def test_grammar_errors_are_one_line(fails: Fails) -> None:
    assert "\n" not in fails("train", "seed=[1,")


def test_missing_root(fails: Fails, tmp_path: Path) -> None:
    message = fails("train", *CAMVID, f"data.root={tmp_path / 'nowhere'}")
    assert "nowhere: no such folder; give the folder that holds train/ and trainannot/" in message


def test_empty_split(fails: Fails, camvid: Path) -> None:
    for image in (camvid / "val").iterdir():
        image.unlink()
    message = fails("train", *CAMVID, f"data.root={camvid}")
    assert message == f"{camvid}/val: no image in this split; val/ must hold PNG or JPG frames"


def test_image_without_mask(fails: Fails, camvid: Path) -> None:
    (camvid / "trainannot" / "0016E5_00001.png").unlink()
    message = fails("train", *CAMVID, f"data.root={camvid}")
    assert "train/0016E5_00001.png: image without mask; expected" in message


@pytest.mark.parametrize("workers", [0, 1])
def test_a_faulty_file_found_while_training_is_one_line(
    fails: Fails, camvid: Path, tmp_path: Path, workers: int
) -> None:
    for mask in (camvid / "trainannot").iterdir():
        Image.fromarray(np.zeros((36, 48), dtype=np.uint8)).save(mask)
    message = fails("train", *CAMVID, f"data.root={camvid}", f"data.num_workers={workers}", f"runs={tmp_path}/runs")
    assert message.startswith(f"{camvid}/trainannot/")
    assert "mask is 36x48 (HxW) but its image" in message
    assert "is 72x96; make them the same size" in message
    assert "Traceback" not in message


def test_backbone_for_a_network_without_one(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "plain.yaml").write_text("_target_: torch.nn.Identity\n")
    where = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    message = fails("train", where, "model=plain", "backbone=resnet18")
    assert message == "backbone=resnet18: model=plain has no backbone to choose; leave it out"


def test_a_value_that_lightning_refuses_is_one_line(fails: Fails, tmp_path: Path) -> None:
    assert "precision" in fails("train", *TINY, "trainer.precision=12", f"runs={tmp_path}")


def test_eval_and_predict_name_what_is_missing(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "camvid-unet-s0").mkdir()
    (tmp_path / "camvid-unet-s0" / "config.yaml").write_text("")
    message = fails("eval", f"run={tmp_path / 'camvid-unet'}")
    assert message.endswith("no run folder there (no config.yaml); the nearest are camvid-unet-s0")
    assert fails("predict", "input=x").startswith("run is not set; give run=... on the command line")
    message = fails("predict", f"run={tmp_path / 'camvid-unet-s0'}", "input=x")
    assert message.endswith("camvid-unet-s0/checkpoints/best.ckpt; this run has none yet")


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["src.train"])

    def broken(cfg: object) -> None:
        np.zeros(3) + np.zeros(2)  # numpy's ValueError is not for the user

    with pytest.raises(ValueError, match="could not be broadcast"):
        launch(broken, "train")


def test_hydra_full_error_shows_the_traceback(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(InstantiationException, match="no such folder"):
        cli("train", "data=camvid", f"data.root={tmp_path / 'no'}")


@pytest.mark.e2e
@pytest.mark.parametrize(
    "words", [*(f"{command} --help" for command in sorted(COMMANDS)), "train optimizer.lrr=1", "draw foldr=x"]
)
def test_help_and_typos_answer_at_once_without_torch(words: str) -> None:
    """Also prints what was imported, by a hook at exit in the same process."""
    command, *arguments = words.split()
    code = (
        "import atexit, runpy, sys\n"
        f"sys.argv = ['src.{command}', *{arguments!r}]\n"
        "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'LIGHT'))\n"
        f"runpy.run_module('src.{command}', run_name='__main__', alter_sys=True)"
    )
    before = os.times()
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert "LIGHT" in result.stdout
    assert result.returncode == (0 if arguments == ["--help"] else 1), result.stderr
    # .6 to 1.1 s on an AMD EPYC, 1.7 s on a Xeon without cached bytecode, on which importing torch takes 6 s.
    assert seconds < 3, "processor time"
    if arguments != ["--help"]:
        assert len(result.stderr.splitlines()) == 1
