"""Every mistake a user can make with the input has one line that says what to do, before anything is trained."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support.paths import ROOT, TINY
from tests.support.trees import write_camvid

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
        (["experiment=camvid_unet"], "experiment=camvid_unet is unknown; the nearest are camvid_unet_resnet18"),
        (["optimzer.lr=1"], "optimzer.lr is not a key of this configuration; the nearest are optimizer.lr"),
        (["optimizer.lrr=1"], "optimizer.lrr is not a key of this configuration; the nearest are optimizer.lr"),
        (["sede=1"], "sede is not a key of this configuration; the nearest are seed"),
        (["seed=-1"], "seed=-1: must be a whole number, at least 0"),
        (["data.batch_size=0"], "data.batch_size=0: must be a whole number, at least 1"),
        (["data.crop_size=64"], "data.crop_size=64: must be [HEIGHT,WIDTH] in pixels"),
        (["inference.overlap=1"], "inference.overlap=1: must be at least 0 and below 1"),
        (["data=camvid"], "data.root is not set; give data.root=... on the command line"),
    ],
)
def test_wrong_words(fails: Fails, arguments: list[str], message: str) -> None:
    assert fails("train", *arguments).startswith(message)


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
def test_mask_of_another_size(fails: Fails, camvid: Path, tmp_path: Path, workers: int) -> None:
    for mask in (camvid / "trainannot").iterdir():
        Image.fromarray(np.zeros((36, 48), dtype=np.uint8)).save(mask)
    message = fails("train", *CAMVID, f"data.root={camvid}", f"data.num_workers={workers}", f"runs={tmp_path}/runs")
    assert "mask is 36x48 (HxW) but its image" in message
    assert "is 72x96; make them the same size" in message
    assert "Traceback" not in message


def test_label_outside_the_table(fails: Fails, camvid: Path, tmp_path: Path) -> None:
    path = camvid / "valannot" / "0001TP_00000.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[0, :3] = 77
    Image.fromarray(mask).save(path)
    message = fails("train", *CAMVID, f"data.root={camvid}", f"runs={tmp_path}/runs")
    assert message == f"{path}: label 77 (3 px) is not in the label table 0..11, 255; mend the mask"


def test_truncated_png(fails: Fails, camvid: Path, tmp_path: Path) -> None:
    path = camvid / "val" / "0001TP_00000.png"
    path.write_bytes(path.read_bytes()[:500])
    message = fails("train", *CAMVID, f"data.root={camvid}", f"runs={tmp_path}/runs")
    assert message.startswith(f"{path}: cannot be read (")
    assert message.endswith("replace or remove the file")


def test_backbone_for_a_network_without_one(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "plain.yaml").write_text("_target_: torch.nn.Identity\n")
    where = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    message = fails("train", where, "model=plain", "backbone=resnet18")
    assert message == "backbone=resnet18: model=plain has no backbone to choose; leave it out"


def test_crop_larger_than_the_image_pads_and_says_so(cli, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli("train", *TINY, "data.crop_size=[96,128]", f"runs={tmp_path}")
    told = capfd.readouterr().out
    assert "note: crops of 96x128 are larger than the images (64x96): padded, and the padding labelled 255" in told


def test_batch_larger_than_the_split(fails: Fails, tmp_path: Path) -> None:
    message = fails("train", *TINY, "data.batch_size=5", f"runs={tmp_path}")
    assert message == (
        "data.batch_size=5 is more than the 4 training images of a device; set data.batch_size=4 or less"
    )


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(fails: Fails, tmp_path: Path) -> None:
    """The rate explodes in the second epoch: after one step at 1e38 the weights are no numbers any more."""
    explode = (
        "scheduler._target_=tests.support.helpers.explode_in_second_epoch",
        "~scheduler.floor",
        "~scheduler.warmup_epochs",
    )
    message = fails("train", *TINY, *explode, "trainer.max_epochs=3", f"runs={tmp_path}", "name=bad")
    assert message.startswith("train/loss is not finite at step 3 (epoch 1); the last good checkpoint is kept.")
    for name in ("last", "best"):
        state = torch.load(tmp_path / "bad" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert state["epoch"] == 0
        assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_weights_file_of_another_architecture(fails: Fails, tmp_path: Path) -> None:
    from segmentation_models_pytorch.encoders import get_encoder

    path = tmp_path / "resnet34.safetensors"
    save_file(get_encoder("resnet34", weights=None).state_dict(), path)
    message = fails("train", *TINY, "backbone=resnet50", f"backbone.weights={path}", f"runs={tmp_path}/runs")
    assert message.startswith(f"backbone.weights={path}: weights of another network than resnet50, which has ")
    path.write_bytes(b"no weights")
    message = fails("train", *TINY, "backbone=resnet18", f"backbone.weights={path}", f"runs={tmp_path}/runs2")
    assert message.startswith(f"{path}: not a weights file (")
    message = fails("train", *TINY, "backbone=resnet18", "backbone.weights=nowhere.pth", f"runs={tmp_path}/runs3")
    assert message == "backbone.weights=nowhere.pth: no such file; give a .safetensors or .pth file, imagenet, or null"


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3"])
def test_offline_weights_name_both_remedies(fails: Fails, tmp_path: Path, backbone: str) -> None:
    message = fails("train", *TINY, f"backbone={backbone}", f"runs={tmp_path}")
    assert "neither in this machine's cache nor can they be downloaded" in message
    assert "set backbone.weights=null to start from random weights, or backbone.weights=PATH" in message


def test_unknown_backbone_name(fails: Fails, tmp_path: Path) -> None:
    message = fails("train", *TINY, "backbone.name=resnet19", f"runs={tmp_path}")
    assert message.startswith("backbone.name=resnet19 is unknown; the nearest are resnet1")
    message = fails("train", *TINY, "backbone.name=tu-convnext_tinny", f"runs={tmp_path}")
    assert "convnext_tiny" in message


def test_unknown_trainer_value_is_one_line(fails: Fails, tmp_path: Path) -> None:
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
    from src.config.cli import launch

    monkeypatch.setattr(sys, "argv", ["src.train"])

    def broken(cfg: object) -> None:
        np.zeros(3) + np.zeros(2)  # numpy's ValueError is not for the user

    with pytest.raises(ValueError, match="could not be broadcast"):
        launch(broken, "train")


def python(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["optimizer.lrr=1"]])
def test_help_and_typos_answer_at_once_without_torch(arguments: list[str]) -> None:
    """Also prints what was imported, by a hook at exit in the same process."""
    code = (
        "import atexit, runpy, sys\n"
        f"sys.argv = ['src.train', *{arguments!r}]\n"
        "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'LIGHT'))\n"
        "runpy.run_module('src.train', run_name='__main__', alter_sys=True)"
    )
    before = os.times()
    result = python("-c", code)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert "LIGHT" in result.stdout
    assert result.returncode == (0 if arguments == ["--help"] else 1), result.stderr
    assert seconds < 2, "processor time, 1.1 s where nothing else runs"
    if arguments != ["--help"]:
        assert len(result.stderr.splitlines()) == 1


def test_hydra_full_error_shows_the_traceback(tmp_path: Path) -> None:
    result = python("-m", "src.train", "data=camvid", f"data.root={tmp_path / 'no'}", HYDRA_FULL_ERROR="1")
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "no such folder" in result.stderr


def test_camvid_trains_from_its_layout(cli, tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", {"train": 4, "val": 2})
    assert 0 <= cli("train", *CAMVID, f"data.root={root}", f"runs={tmp_path}/runs") <= 1


@pytest.mark.parametrize(
    ("environment", "reachable", "mode"),
    [
        ({}, True, "offline"),
        ({"WANDB_API_KEY": "k"}, True, "online"),
        ({"WANDB_API_KEY": "k"}, False, "offline"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, True, "offline"),
    ],
)
def test_wandb_is_online_only_with_a_key_and_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], reachable: bool, mode: str
) -> None:
    from src.callbacks import wandb_logger

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wandb_logger, "reachable", lambda server: reachable)
    (tmp_path / "environment.json").write_text('{"id": "1a2b", "sessions": []}')
    logger = wandb_logger.build_wandb_logger(str(tmp_path), "p", None, "auto")
    assert logger._wandb_init["mode"] == mode
    assert logger._wandb_init["id"] == f"{tmp_path.name}-1a2b"
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb_logger, "reachable", lambda server: False)
    with pytest.raises(ValueError, match=r"logger.wandb.mode=online: .*set logger.wandb.mode=auto to log offline"):
        wandb_logger.build_wandb_logger(str(tmp_path), "p", None, "online")
