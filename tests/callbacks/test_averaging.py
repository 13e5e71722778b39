"""EMA and SWA: the averages, what is validated and kept, and that a resumed run is bitwise the same."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from src.callbacks.averaging import TRAINED, ExponentialAverage, StochasticAverage, WeightAverage
from src.callbacks.early_stopping import EarlyStopping
from src.callbacks.freezing import Freezing
from src.evaluation.checkpoint import load_weights
from src.training.schedules import plateau
from tests.support.paths import ROOT, TINY
from tests.support.small import (
    KilledError,
    StopAt,
    adamw,
    checkpoint,
    differing,
    fit,
    small_data,
    small_task,
    small_trainer,
)
from tests.training.test_batchnorm import naive
from tests.training.test_train import read_csv

IMAGES = 4  # of the 6 of the training split


class Weights(L.Callback):
    """Records the weights after every batch, and whether the average stands in the task while it validates."""

    def __init__(self) -> None:
        self.after: list[dict[str, torch.Tensor]] = []
        self.validated: list[bool] = []
        self.initial: dict[str, torch.Tensor] = {}

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.initial = copy_of(task)

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
        self.after.append(copy_of(task))

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            (average,) = (c for c in trainer.callbacks if isinstance(c, WeightAverage))
            self.validated.append(task.network is average.average)


def copy_of(task: L.LightningModule) -> dict[str, torch.Tensor]:
    return {f"network.{name}": value.detach().clone() for name, value in task.network.named_parameters()}


def test_ema_is_its_recursion(tmp_path: Path) -> None:
    """9 steps in 3 epochs, with the smaller decays of the first steps: 1/10 (replaced by the copy of the first step),
    2/11, 3/12 ... until .5 is smaller."""
    seen, task = Weights(), small_task()
    fit(tmp_path, task, [seen, ExponentialAverage(0.5, IMAGES)])
    state = checkpoint(tmp_path)
    assert len(seen.after) == 9
    assert seen.validated == [True] * 3
    for name, value in seen.after[0].items():
        average = value.double()
        for n, weights in enumerate(seen.after[1:], start=1):
            decay = min(0.5, (1 + n) / (10 + n))
            average = decay * average + (1 - decay) * weights[name].double()
        torch.testing.assert_close(state["state_dict"][name].double(), average, rtol=1e-5, atol=1e-7)
        assert torch.equal(state[TRAINED][name], seen.after[-1][name])
        assert torch.equal(task.state_dict()[name], seen.after[-1][name]), "training continues from the weights"
        assert not torch.equal(state["state_dict"][name], seen.after[-1][name])


def test_the_initial_weights_are_in_no_average(tmp_path: Path) -> None:
    """After one step the average is the weights of that step, whatever the decay (PL #21724)."""
    seen = Weights()
    fit(tmp_path, small_task(), [seen, ExponentialAverage(0.9999, IMAGES)], small_data(2, 2), epochs=1)
    state = checkpoint(tmp_path)["state_dict"]
    assert len(seen.after) == 1
    for name, value in seen.after[0].items():
        assert torch.equal(state[name], value)
        assert not torch.equal(seen.initial[name], value)


def test_swa_is_the_mean_of_the_last_epochs(tmp_path: Path) -> None:
    """The first half of 4 epochs is left out; in it the weights themselves are validated and kept."""
    seen = Weights()
    fit(tmp_path / "whole", small_task(), [seen, StochasticAverage(0.5, IMAGES)], epochs=4)
    state = checkpoint(tmp_path / "whole")["state_dict"]
    assert seen.validated == [False, False, True, True]
    for name in seen.after[0]:
        mean = (seen.after[8][name].double() + seen.after[11][name].double()) / 2
        torch.testing.assert_close(state[name].double(), mean, rtol=1e-6, atol=1e-8)
    early = Weights()
    with pytest.raises(KilledError):
        fit(tmp_path / "early", small_task(), [early, StochasticAverage(0.5, IMAGES), StopAt(2, 0)], epochs=4)
    before = checkpoint(tmp_path / "early")
    assert TRAINED not in before
    assert all(torch.equal(before["state_dict"][name], value) for name, value in early.after[5].items())


def test_what_is_kept_is_what_was_validated_with_batchnorm_measured_on_training_images(tmp_path: Path) -> None:
    trainer = fit(tmp_path, small_task(), [ExponentialAverage(0.9, IMAGES)])
    figure = float(trainer.callback_metrics["val/miou"])
    again = small_task()
    load_weights(again, tmp_path / "last.ckpt")
    trainer = small_trainer(tmp_path / "again")
    trainer.validate(again, small_data(), verbose=False)
    assert float(trainer.callback_metrics["val/miou"]) == figure
    both = checkpoint(tmp_path)
    counted = [name for name in both[TRAINED] if name.endswith("num_batches_tracked")]
    assert [int(both["state_dict"][name]) for name in counted] == [9, 9], (
        "what is not averaged is copied from the weights"
    )
    loader = small_data().train_dataloader()  # the first epoch's, two batches of two
    batches = [batch["image"] for batch, _ in zip(loader, range(2), strict=False)]
    state = checkpoint(tmp_path)["state_dict"]
    expected = naive(again.network, batches)
    assert len(expected) == 2
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(state[f"network.{name}.running_mean"].double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state[f"network.{name}.running_var"].double(), variance, rtol=1e-5, atol=1e-6)
        assert not torch.equal(
            state[f"network.{name}.running_var"], checkpoint(tmp_path)[TRAINED][f"network.{name}.running_var"]
        )


def test_frozen_batchnorm_keeps_its_statistics_in_the_average(tmp_path: Path) -> None:
    fit(tmp_path, small_task(), [Freezing(9, 0), ExponentialAverage(0.9, IMAGES)])
    state = checkpoint(tmp_path)["state_dict"]
    assert state["network.architecture.encoder.1.running_mean"].tolist() == [0.0] * 8
    assert state["network.architecture.head.1.running_mean"].abs().min() > 0


def test_only_optimiser_steps_are_averaged(tmp_path: Path) -> None:
    average = ExponentialAverage(0.9, IMAGES)
    fit(tmp_path, small_task(), [average], small_data(7, 1), epochs=2, accumulate_grad_batches=3)
    assert average.count == 6


def test_an_average_that_was_never_made_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As by early stopping before its first epoch."""
    average = StochasticAverage(0.9, IMAGES)
    stop = EarlyStopping(1)
    stop.wait_count = 1
    with caplog.at_level("INFO"):
        fit(tmp_path / "early", small_task(), [average, stop], epochs=3)
        assert [text for text in caplog.messages if "averaging" in text] == [
            "note: the training ended before averaging began: all figures are of the weights themselves"
        ]


def test_epochs_without_validation_leave_an_average_that_can_be_evaluated(tmp_path: Path) -> None:
    """The last checkpoint's BatchNorm belongs to its own weights, validated or not."""
    average = ExponentialAverage(0.9, IMAGES)
    with pytest.raises(KilledError):
        fit(tmp_path, small_task(), [average, StopAt(3, 0)], epochs=4, check_val_every_n_epoch=2)
    again = small_task()
    load_weights(again, tmp_path / "last.ckpt")
    state = {name: value.clone() for name, value in again.state_dict().items()}
    batches = [batch["image"] for batch, _ in zip(small_data().train_dataloader(), range(2), strict=False)]
    for name, (mean, _) in naive(again.network, batches).items():
        torch.testing.assert_close(state[f"network.{name}.running_mean"].double(), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average", [partial(ExponentialAverage, 0.9), partial(StochasticAverage, 0.2)])
def test_a_resumed_run_is_bitwise_the_same(average: partial, tmp_path: Path) -> None:
    """With a plateau by the average's figure, momentum in the optimizer, dropout in the network."""
    schedule = partial(plateau, factor=0.5, patience=0, warmup_epochs=0, threshold=1e6)

    def train(folder: Path, *more: L.Callback) -> None:
        # Two steps of three batches: the first batch after a resume makes none.
        fit(folder, small_task(adamw, schedule), [average(IMAGES), *more], epochs=5, accumulate_grad_batches=2)

    train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "killed", StopAt(3, 1))
    assert checkpoint(tmp_path / "killed")["epoch"] == 2
    train(tmp_path / "killed")
    for name in ("last", "best"):
        ours, theirs = checkpoint(tmp_path / "killed", name), checkpoint(tmp_path / "whole", name)
        for part in ("state_dict", TRAINED, "optimizer_states", "lr_schedulers", "callbacks", "epoch", "global_step"):
            assert not differing(ours.get(part), theirs.get(part)), (name, part)
    assert TRAINED in theirs or isinstance(average(IMAGES), StochasticAverage)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(ExponentialAverage, 1.0, 4), r"averaging.decay=1.0: must be above 0 and below 1"),
        (partial(ExponentialAverage, 0.9, 0), r"averaging.batchnorm_images=0: must be a whole number, at least 1"),
        (partial(StochasticAverage, 1.0, 4), r"averaging.start=1.0: must be at least 0 and below 1"),
    ],
)
def test_wrong_options_are_refused(build: partial, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.slow
def test_killed_and_started_again_by_the_command_line(cli: Any, tmp_path: Path) -> None:
    """After SIGKILL, with EMA and a plateau: bitwise the run without a kill; src.eval gives the training's figure."""
    arguments = (
        *(word for word in TINY if not word.startswith(("trainer.max_epochs", "data.dataset.num_train"))),
        "averaging=ema", "averaging.batchnorm_images=4", "scheduler=plateau", "scheduler.patience=0",
        "scheduler.threshold=1e6", "trainer.max_epochs=4", "data.dataset.num_train=8", "trainer.log_every_n_steps=1",
        "+callbacks.kill._target_=tests.support.helpers.KillAt", f"runs={tmp_path}",
    )  # fmt: skip

    def start(name: str, **env: str) -> int:
        command = [sys.executable, "-m", "src.train", *arguments, f"name={name}"]
        options = {"capture_output": True, "check": False, "start_new_session": True}
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, **options).returncode

    cli("train", *arguments, "name=whole")
    assert start("killed", KILL_AT="2:1") == -signal.SIGKILL
    assert start("killed") == 0
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for name in ("last", "best"):
        ours, theirs = checkpoint(killed / "checkpoints", name), checkpoint(whole / "checkpoints", name)
        for part in ("state_dict", TRAINED, "optimizer_states", "lr_schedulers"):
            assert not differing(ours[part], theirs[part]), (name, part)
    columns = ("step", "train/loss", "val/miou", "val/loss", "lr/head", "lr/backbone")
    rows = [[[row[key] for key in columns] for row in read_csv(run)] for run in (whole, killed)]
    assert rows[0] == rows[1]
    rates = [float(row["lr/head"]) for row in read_csv(whole) if row["lr/head"]]
    assert rates == pytest.approx([0.003] * 8 + [0.0015] * 4 + [0.00075] * 4)
    (trained,) = json.loads((whole / "results.json").read_text())["evaluations"].values()
    best = max(float(row["val/miou"]) for row in read_csv(whole) if row["val/miou"])
    assert trained["miou"] == pytest.approx(best, rel=1e-6), "metrics.csv has the average's figures"
    assert cli("eval", f"run={whole}", "accelerator=cpu") == trained["miou"]
