"""Two processes: a frozen backbone, an average, a plateau."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from src.runs.folder import RunFolder
from src.runs.metrics_csv import read_metrics
from tests.support.paths import ROOT, TINY
from tests.support.processes import assert_same_weights
from tests.support.small import differing

pytestmark = pytest.mark.e2e
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def test_two_processes_stay_one_network_and_leave_one_run(cli, tmp_path: Path) -> None:
    """The backbone is held in the first of three epochs; DDP then brings its gradients together as it does the head's.
    The plateau cuts the rate after each epoch but the first, on both. `src.eval` of the same weights in one process
    counts the same pixels of a validation set of odd size."""
    arguments = [word for word in TINY[1:] if not word.startswith(("trainer.max_epochs", "data.dataset.num_train"))]
    command = [
        sys.executable, "-m", "src.train", *arguments, *TWO, "trainer.max_epochs=3", "data.dataset.num_train=8",
        "data.dataset.num_val=5", "freeze.backbone_epochs=1", "averaging=ema", "averaging.batchnorm_images=4",
        "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=1e6", f"runs={tmp_path}", "name=two",
        "+callbacks.ranks._target_=tests.support.helpers.SaveRanks", f"+callbacks.ranks.folder={tmp_path}/ranks",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    states = [
        [torch.load(tmp_path / "ranks" / f"rank_{rank}_epoch_{epoch}.pt", weights_only=True) for rank in range(2)]
        for epoch in range(3)
    ]
    for first, second in states:
        assert not differing(first, second), "weights, average with its BatchNorm, and rates"
    weights = [first["weights"] for first, _ in states]
    encoder = [name for name in weights[0] if ".encoder." in name]
    assert not any(torch.equal(weights[0][name], weights[1][name]) for name in encoder), "it moves from then on"
    held = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert states[0][0]["rates"] == [0.003] * 4
    assert states[2][0]["rates"] == [0.00075] * 4
    steps = {float(state["step"]) for state in held["state"].values()}
    assert steps == {4.0, 6.0}, "AdamW knows the backbone for two epochs of two steps only"
    run = RunFolder(tmp_path / "two")
    (both,) = run.read_results().evaluations.values()
    assert cli("eval", f"run={run.path}", "accelerator=cpu") == both.miou
    assert np.sum(both.matrix) > 4.5 * 64 * 96 * 0.9, "all five images count, each once"
    assert len(run.read_environment()["sessions"]) == 1


@pytest.mark.slow
def test_two_processes_agree_to_save_within_an_epoch(tmp_path: Path) -> None:
    """SIGTERM to the process group; the same command ends with the weights and the mean loss of one without it."""
    arguments = [word for word in TINY[1:] if not word.startswith(("trainer.max_epochs", "data.dataset.num_train"))]
    command = [
        sys.executable, "-m", "src.train", *arguments, *TWO, "trainer.max_epochs=2", "data.dataset.num_train=16",
        "trainer.log_every_n_steps=1", "+callbacks.kill._target_=tests.support.helpers.KillAt", f"runs={tmp_path}",
    ]  # fmt: skip

    def start(name: str, **env: str) -> int:
        options = {"capture_output": True, "check": False, "start_new_session": True, "env": {**os.environ, **env}}
        return subprocess.run([*command, f"name={name}"], cwd=ROOT, **options).returncode

    assert start("whole") == 0
    assert start("stopped", KILL_AT="1:1", KILL_BY=str(int(signal.SIGTERM))) == 143
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 4 + 2
    assert start("stopped") == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")
    losses = [
        [row["train/loss_epoch"] for row in read_metrics(tmp_path / name / "metrics.csv") if "train/loss_epoch" in row]
        for name in ("whole", "stopped")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_any_number_of_ranks_counts_the_same_pixels(devices: int, real_camvid: Path, tmp_path: Path) -> None:
    """The 101 images of CamVid's val, by a network of the zoo, which a step at no rate leaves as it is."""
    zoo = ROOT / "zoo" / "camvid_lraspp_lite0"
    command = [
        sys.executable, "-m", "src.train", "experiment=camvid/lraspp_lite0", f"data.root={real_camvid}",
        f"init_from={zoo}", "trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={devices}",
        "trainer.precision=32-true", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1",
        "+trainer.limit_train_batches=1", "scheduler=constant", "scheduler.warmup_epochs=0", "optimizer.lr=1e-30",
        "freeze.batchnorm_epochs=1", "averaging=none", "data.num_workers=0", "data.batch_size=2",
        "data.eval_batch_size=1", "logger=csv", "callbacks.panels=null", f"runs={tmp_path}", "name=x",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    (counted,) = RunFolder(tmp_path / "x").read_results().evaluations.values()
    assert counted.matrix == RunFolder(zoo).read_results().evaluations[counted.tag].matrix
