"""Training end to end: the files of a run, resuming, killing, sweeps; the figures agree wherever they are written.

Only the run of the fixture `finished` is trained in the fast tests.
"""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from src.config.cli import launch
from src.data.streets.source import Streets
from src.metrics.figures import figures
from src.runs.folder import RunFolder
from src.train import train
from tests.metrics.test_figures import brute_force_iou
from tests.support import wandb_files
from tests.support.paths import ROOT, TINY
from tests.support.small import differing


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(a: Path, b: Path, name: str = "last") -> None:
    assert not differing(weights(a, name), weights(b, name))


def read_csv(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run with W&B offline and all figures, trained by the command; `printed.txt` is its output."""
    runs = tmp_path_factory.mktemp("runs")
    arguments = [argument for argument in TINY if not argument.startswith(("logger", "trainer.enable"))]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        words = (f"runs={runs}", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
        patch.setattr(sys, "argv", ["src.train", *arguments, *words])
        launch(train, "train")
    (run,) = (path for path in runs.iterdir())
    (run / "printed.txt").write_text(printed.getvalue())
    return run


def test_a_run_folder_has_everything(finished: Path) -> None:
    files = {path.relative_to(finished).as_posix() for path in finished.rglob("*")}
    assert {
        "config.yaml", "environment.json", "metrics.csv", "results.json", "train.log", "curves.png", "classes.png",
        "class_curves.png", "confusion.png", "shares.png",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "panels/epoch_0002.png",
    } <= files  # fmt: skip
    assert not [name for name in files if ".tmp" in name]
    shown = {path.name for path in finished.glob("wandb/offline-run-*/files/media/images/figures/*")}
    assert {re.sub(r"_\d+_\w{20}\.png$", "", name) for name in shown} == {
        "curves", "class_curves", "classes", "confusion", "shares", "reliability"
    }  # fmt: skip
    (images,) = finished.glob("evaluations/val-*/images.csv")
    assert len(images.read_text().splitlines()) == 1 + 3, "one line per image of val"
    assert len(list(images.parent.glob("worst/*_prediction.png"))) == 3
    config = OmegaConf.load(finished / "config.yaml")
    assert list(config.data.classes) == list(Streets.classes)
    assert config.run_dir == str(finished)
    assert "${" not in (finished / "config.yaml").read_text()
    environment = json.loads((finished / "environment.json").read_text())
    assert set(environment["sessions"][0]["versions"]) >= {"torch", "lightning", "timm"}
    assert len(environment["sessions"][0]["git_commit"]) == 40


def test_the_banner_describes_the_training(finished: Path) -> None:
    printed = (finished / "printed.txt").read_text()
    for part in (
        "streets: 4 train, 3 val, 11 classes", "unet_small, backbone tu-test_resnet", "M parameters",
        "random (backbone.weights=null), by seed 0", "val, whole at own size", str(finished), "BatchNorm over 2 images",
    ):  # fmt: skip
        assert part in printed
        assert part in (finished / "train.log").read_text()
    assert re.search(r"epoch 2/2: loss .*, val mIoU 0\.\d{4}, .* images/s, 0:00:00 left", printed)
    assert "Bicyclist" in printed


def test_the_offline_file_of_wandb_has_a_whole_dashboard(finished: Path) -> None:
    """Read back from the file that W&B would send: each thing that docs/runs.md promises."""
    run, rows, drawn = wandb_files.run_record(finished), wandb_files.history(finished), wandb_files.metrics(finished)
    classes = list(Streets.classes)
    assert run.job_type == "train"
    assert set(run.tags) == {"streets", "unet_small", "tiny"}, "data, network, backbone"
    flat = wandb_files.config(finished)
    assert (flat["optimizer.lr"], flat["trainer.max_epochs"], flat["data.batch_size"]) == (3e-3, 2, 2)
    assert not [key for key, value in flat.items() if isinstance(value, dict) and value], "the configuration is flat"
    # Curves: epochs as the x axis, whatever the step; losses, rates, speed, memory.
    assert drawn["*"].step_metric == drawn["val/miou"].step_metric == "epoch"
    assert drawn["val/miou"].summary.max
    curves = {key: [row["epoch"] for row in rows if key in row] for row in rows for key in row}
    ends = ("val/miou", "val/loss", "train/loss_epoch", *(f"val/iou/{name}" for name in classes))
    assert {key: curves[key] for key in ends} == {key: [1, 2] for key in ends}
    steps = ("train/loss", "lr/backbone", "lr/head", "train/images_per_s", "train/step_s", "train/memory_gib")
    assert {key: curves[key][-1] for key in steps} == dict.fromkeys(steps, 2)
    logged = [float(row["val/miou"]) for row in read_csv(finished) if row["val/miou"]]
    assert [row["val/miou"] for row in rows if "val/miou" in row] == pytest.approx(logged)
    # The same validation images, each with two masks that can be switched on and off.
    (shown,) = (row for row in rows if "val/examples/captions" in row)
    assert (shown["epoch"], shown["val/examples/captions"]) == (2, [f"val_{index:05d}" for index in range(3)])
    source = Streets(seed=flat["data.dataset.seed"], size=(64, 96), num_train=4, num_val=3)
    (files,) = finished.glob("wandb/offline-run-*/files")
    for sample, masks in zip(source.samples("val"), shown["val/examples/all_masks"], strict=True):
        assert set(masks) == {"prediction", "truth"}
        truth = np.asarray(Image.open(files / masks["truth"]["path"]))
        np.testing.assert_array_equal(truth, source.read(sample)[1])
    # W&B's own charts, and the tables behind them.
    assert wandb_files.charts(finished) == {
        "figures/iou": "wandb/bar/v0", "figures/confusion_matrix": "wandb/confusion_matrix/v1",
    }  # fmt: skip
    (evaluation,) = json.loads((finished / "results.json").read_text())["evaluations"].values()
    bars, cells = (
        json.loads(next(files.glob(f"media/table/figures/{name}_table_*.json")).read_text())["data"]
        for name in ("iou", "confusion_matrix")
    )
    assert dict(bars) == pytest.approx({name: iou for name, iou in evaluation["iou"].items() if iou is not None})
    matrix = np.array(evaluation["matrix"])
    sky, road = classes.index("Sky"), classes.index("Road")
    expected = 100 * matrix[sky, road] / matrix[sky].sum()
    assert next(value for truth, found, value in cells if (truth, found) == ("Sky", "Road")) == pytest.approx(
        expected, abs=0.01
    )
    assert len(cells) == len(classes) ** 2
    assert wandb_files.summary(finished)["best/miou"] == pytest.approx(evaluation["miou"])
    assert wandb_files.exit_code(finished) == 0
    assert list((finished / "wandb").glob("artifacts/**/*")), "its tables are in the run folder, not in the user's home"


def test_the_end_names_best_epoch_worst_classes_and_what_to_try(finished: Path) -> None:
    printed = (finished / "printed.txt").read_text()
    assert re.search(
        r"best epoch: [12] of 2, mIoU [\d.]+ %; after the last [\d.]+ %\nworst classes: \w+ [\d.]+ % \(", printed
    )
    assert f"""try: the same command with "init_from='{finished}'" optimizer.lr=0.0003: fine-tuning""" in printed


def test_results_state_their_protocol(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["finished"]
    (evaluation,) = results["evaluations"].values()
    assert evaluation["tag"] == "streets-11 val (3 images), whole at own size"
    assert evaluation["protocol"]["labels"] == "streets-11"
    assert figures(np.array(evaluation["matrix"])).miou == evaluation["miou"]
    assert np.array(evaluation["matrix"]).sum() <= 3 * 64 * 96


def test_best_figure_is_that_of_the_curve(finished: Path) -> None:
    (evaluation,) = json.loads((finished / "results.json").read_text())["evaluations"].values()
    curve = [float(row["val/miou"]) for row in read_csv(finished) if row["val/miou"]]
    assert len(curve) == 2
    assert evaluation["miou"] == pytest.approx(max(curve), abs=1e-6)


def test_eval_repeats_the_figure_and_the_same_command_trains_nothing_twice(finished: Path, cli) -> None:
    (before,) = json.loads((finished / "results.json").read_text())["evaluations"].values()
    assert cli("eval", f"run={finished}", "accelerator=cpu") == pytest.approx(before["miou"], abs=1e-6)
    checkpoint = (finished / "checkpoints" / "last.ckpt").read_bytes()
    again = cli("train", *TINY, f"runs={finished.parent}", "trainer.max_epochs=2")
    assert again == before["miou"]
    assert (finished / "checkpoints" / "last.ckpt").read_bytes() == checkpoint
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


def test_eval_of_another_protocol_is_added_beside(finished: Path, cli) -> None:
    cli("eval", f"run={finished}", "accelerator=cpu", "split=train", "inference.flip=true", "inference.size=[32,64]")
    results = json.loads((finished / "results.json").read_text())
    assert "streets-11 train (4 images), whole at 32x64, flip" in results["evaluations"]
    assert next(iter(results["evaluations"])) == "streets-11 val (3 images), whole at own size"


def test_predicted_label_files_give_the_same_miou_by_brute_force(finished: Path, cli, tmp_path: Path) -> None:
    config = OmegaConf.load(finished / "config.yaml").data.dataset
    source = Streets(seed=config.seed, size=(64, 96), num_train=4, num_val=3, num_test=1)
    truths, photos = [], tmp_path / "photos"
    photos.mkdir()
    for sample in source.samples("val"):
        image, mask = source.read(sample)
        Image.fromarray(image).save(photos / f"{sample.name}.png")
        truths.append(mask.ravel())
    assert cli("predict", f"run={finished}", f"input={photos}", f"output={tmp_path / 'out'}", "accelerator=cpu") == 3
    files = sorted((tmp_path / "out" / "labels").iterdir())
    predictions = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED).ravel() for file in files]
    iou = brute_force_iou(np.concatenate(truths), np.concatenate(predictions), 11)
    evaluation = json.loads((finished / "results.json").read_text())["evaluations"]
    miou = evaluation["streets-11 val (3 images), whole at own size"]["miou"]
    assert np.nanmean(iou) == pytest.approx(miou, abs=1e-6)


def test_predict_takes_any_size_and_names_what_it_could_not_read(finished: Path, fails, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (37, 53)), ("b.png", (130, 67)), ("c.png", (1, 1))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(photos / name)
    (photos / "broken.png").write_bytes((photos / "b.png").read_bytes()[:300])
    call = ("predict", f"run={finished}", f"input={photos}", f"output={tmp_path / 'out'}", "accelerator=cpu")
    message = fails(*call)
    assert message.startswith(f"1 of 4 files could not be read: {photos}/broken.png: cannot be read")
    for name, size in (("a", (53, 37)), ("b", (67, 130)), ("c", (1, 1))):
        for kind in ("labels", "colours", "overlays"):
            picture = cv2.imread(str(tmp_path / "out" / kind / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert picture.shape[1::-1] == size
    assert cv2.imread(str(tmp_path / "out" / "legend.png")).shape[1] == 640
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "labels").iterdir())]
    assert fails(*call) == message, "the rest was done before"
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "labels").iterdir())] == times
    assert "other settings (inference.flip: False -> True); give another output=" in fails(*call, "inference.flip=true")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    assert "holds files that this program did not make" in fails(*call, f"output={tmp_path / 'mine'}")
    assert "outputs=['label']: has label; give some of labels, colours" in fails(*call, "outputs=[label]")
    assert "classes=['Sea']: has Sea; give some of " in fails(*call, "classes=[Sea]")


@pytest.mark.e2e
def test_resume_false_starts_beside_and_another_config_is_refused(cli, fails, tmp_path: Path) -> None:
    cli("train", *TINY, f"runs={tmp_path}", "name=a")
    results = (tmp_path / "a" / "results.json").read_bytes()
    cli("train", *TINY, f"runs={tmp_path}", "name=a", "resume=false")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-2"]
    assert (tmp_path / "a" / "results.json").read_bytes() == results
    assert_same_weights(tmp_path / "a", tmp_path / "a-2")
    message = fails("train", *TINY, f"runs={tmp_path}", "name=a", "optimizer.lr=0.5")
    assert "a holds a run of another configuration (optimizer.lr: 0.003 -> 0.5); give another name=" in message
    message = fails("train", *TINY, f"runs={tmp_path}", "name=a", "trainer.max_epochs=2")
    assert "a holds the same training with trainer.max_epochs: 1 -> 2, and a run keeps the number of epochs" in message


@pytest.mark.e2e
def test_seeds(cli, tmp_path: Path) -> None:
    """Same seed, same weights, whatever the folder and the workers; seed 0 seeds."""
    for name, arguments in {"a": ["seed=0"], "b": ["seed=0", "data.num_workers=1"], "c": ["seed=1"]}.items():
        torch.manual_seed(hash(name) % 1000)  # what the process did before must not matter
        cli("train", *TINY, *arguments, f"runs={tmp_path}", f"name={name}")
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")


@pytest.mark.e2e
def test_overfits_two_images(cli, tmp_path: Path) -> None:
    arguments = [argument for argument in TINY if not argument.startswith(("model.", "trainer.max_epochs"))]
    cli(
        "train", *arguments, "data.dataset.num_train=2", "data.dataset.num_val=1", "augmentation=none", "loss=ce",
        "trainer.max_epochs=200", "trainer.check_val_every_n_epoch=200", "trainer.log_every_n_steps=1",
        "optimizer.lr=5e-3", "callbacks.panels.every_n_epochs=1000", f"runs={tmp_path}", "name=two",
    )  # fmt: skip
    losses = [float(row["train/loss"]) for row in read_csv(tmp_path / "two") if row["train/loss"]]
    assert losses[0] > 1
    assert losses[-1] < 0.05


KILL = (
    *(word for word in TINY if not word.startswith(("model.", "trainer.max_epochs", "data.dataset.num_train"))),
    "model=deeplabv3plus", "trainer.max_epochs=3", "data.dataset.num_train=8", "data.num_workers=1",
    "+callbacks.kill._target_=tests.support.helpers.KillAt",
)  # fmt: skip


@pytest.mark.e2e
def test_killed_in_the_middle_of_an_epoch_and_started_again(cli, tmp_path: Path) -> None:
    """SIGKILL, SIGTERM, then the same command: bitwise the weights of a run that nobody killed (dropout and all).

    SIGTERM reaches the data process too, and the training saves before it ends.
    """

    def start(*words: str, **env: str) -> int:
        command = [sys.executable, "-m", "src.train", *KILL, *words, f"runs={tmp_path}", "name=killed"]
        options = {"capture_output": True, "check": False, "start_new_session": True}
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, **options).returncode

    def saved() -> tuple[int, int]:
        content = torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt", weights_only=True)
        return content["epoch"], content["global_step"]

    cli("train", *KILL, f"runs={tmp_path}", "name=whole")
    assert start("checkpoints.every_minutes=0", KILL_AT="0:2") == -signal.SIGKILL
    assert saved() == (0, 2)
    assert start(KILL_AT="1:2", KILL_BY=str(int(signal.SIGTERM))) == 143
    assert saved() == (1, 4 + 3)
    assert not (tmp_path / "killed" / "results.json").exists()
    before = tmp_path / "killed" / "checkpoints" / "before.ckpt"
    shutil.copy(before, tmp_path / "killed" / "hpc_ckpt_1.ckpt")  # as Lightning leaves under Slurm, and loads
    assert start(SLURM_NTASKS="1", SLURM_JOB_NAME="train", SLURM_JOB_ID="7", SLURM_LOCALID="0", SLURM_NODEID="0") == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    assert_same_weights(tmp_path / "whole", tmp_path / "killed", "best")
    rows = [
        [(row["step"], row["val/miou"], row["train/loss_epoch"]) for row in read_csv(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    assert rows[0] == rows[1], "the curve has every epoch once"
    sessions = json.loads((tmp_path / "killed" / "environment.json").read_text())["sessions"]
    assert [session["continues_checkpoint"] for session in sessions] == [False, True, True]


@pytest.mark.e2e
def test_sweep_leaves_distinct_runs_and_a_table(tmp_path: Path) -> None:
    arguments = [argument for argument in TINY if not argument.startswith(("model.", "logger"))]
    command = [
        sys.executable, "-m", "src.train", "-m", *arguments, f"runs={tmp_path}", "model=unet,deeplabv3plus"
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    runs = sorted(path.parent for path in tmp_path.glob("*/results.json"))
    names = [run.name.rsplit("-", 1)[0] for run in runs]
    assert names == [f"streets-{model}-tiny-s0" for model in ("deeplabv3plus", "unet")]
    for run in runs:
        assert len(list((run / "wandb").glob("offline-run-*"))) == 1, "one W&B run a job"
    (summary,) = tmp_path.glob("sweeps/*/summary.md")
    table = summary.read_text()
    assert table in result.stdout
    assert (summary.parent / "summary.png").is_file()
    assert "sweep: 1 of 2 jobs done; best val/miou" in result.stdout
    for run in runs:
        (evaluation,) = json.loads((run / "results.json").read_text())["evaluations"].values()
        model = run.name.split("-")[1]
        assert f"| {model} | {run.name} | {evaluation['miou']:.4f} |" in table
        (session,) = json.loads((run / "environment.json").read_text())["sessions"]
        assert session["command"].endswith(f" model={model}")
        assert ",deeplabv3plus" not in session["command"]


@pytest.mark.e2e
def test_a_failing_job_of_a_sweep_does_not_stop_the_others(fails, tmp_path: Path) -> None:
    message = fails("train", "-m", *TINY, f"runs={tmp_path}", "data.batch_size=5,2")
    assert message.startswith("data.batch_size=5 is more than the 4 training images")
    assert len(list(tmp_path.glob("*/results.json"))) == 1
    (summary,) = tmp_path.glob("sweeps/*/summary.md")
    table = summary.read_text()
    assert "| 0 | 5 | streets-" in table
    assert table.count("| failed |") == 1
    assert "job 0 failed (data.batch_size=5): data.batch_size=5 is more than the 4 training images" in table


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_sweep_by_a_launcher(launcher: str, tmp_path: Path) -> None:
    """Two jobs side by side, one of which fails: the table is printed, and the status is not 0."""
    command = [
        sys.executable, "-m", "src.train", "-m", f"hydra/launcher={launcher}", *TINY, f"runs={tmp_path}",
        "data.batch_size=5,2", *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []),
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    (summary,) = tmp_path.glob("sweeps/*/summary.md")
    table = summary.read_text()
    assert table in result.stdout
    assert (table.count("| failed |"), table.count("| done |")) == (1, 1)
    assert "job 0 failed (data.batch_size=5): data.batch_size=5 is more than the 4 training images" in table
    assert "job 0 (data.batch_size=5): failed: data.batch_size=5 is more than " in result.stdout
    assert re.search(
        r"^job 1 \(data\.batch_size=2\): done, val/miou 0\.\d{4}; sweep: 1 of 2 jobs done", result.stdout, re.M
    )
    (run,) = (path.parent for path in tmp_path.glob("*/results.json"))
    (session,) = json.loads((run / "environment.json").read_text())["sessions"]
    assert " data.batch_size=2" in session["command"]


@pytest.mark.e2e
def test_a_sweep_with_a_wrong_word_trains_nothing(fails, tmp_path: Path) -> None:
    message = fails("train", "-m", *TINY, f"runs={tmp_path}", "model=unet,unett")
    assert "unett" in message
    assert not list(tmp_path.glob("*/results.json"))


def test_a_run_folder_is_trained_in_by_one_process_at_a_time(fails, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    with RunFolder(folder).lock():
        message = fails("train", *TINY, f"runs={tmp_path}", "name=a")
    assert "another process is training in this run folder" in message


@pytest.mark.slow
def test_a_sweep_of_ddp_jobs_is_one_process_a_job(tmp_path: Path) -> None:
    """Each job is a command of its own; Lightning's children would otherwise replay the whole sweep."""
    command = [
        sys.executable, "-m", "src.train", "-m", *TINY[1:], "trainer=ddp", "trainer.accelerator=cpu",
        "trainer.devices=2", "seed=0,1", f"runs={tmp_path}",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    runs = [path.parent for path in tmp_path.glob("*/results.json")]
    assert len(runs) == 2
    for run in runs:
        assert len(json.loads((run / "environment.json").read_text())["sessions"]) == 1
    (summary,) = tmp_path.glob("sweeps/*/summary.md")
    assert "not finished" not in summary.read_text()
