"""A training that was stopped in the middle of an epoch goes on with the next sample, bitwise as if it had not been."""

import itertools
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from src.callbacks.averaging import ExponentialAverage, StochasticAverage
from src.callbacks.checkpoints import BestAndLast
from src.callbacks.csv_logger import CSVLogger
from src.callbacks.progress import Lines
from src.data.datamodule import SegmentationDataModule
from src.errors import UserError
from src.evaluation.checkpoint import WITHIN, load_weights
from src.machine import SIGNALS
from src.processes.signals import StoppedError, stop
from src.runs.metrics_csv import read_metrics
from src.training.ranks import take_sigterm
from tests.support.small import KilledError, StopAt, checkpoint, differing, fit, small_data, small_task

EXTRAS: dict[str, Callable[[], list[L.Callback]]] = {
    "plain": list,
    "ema": lambda: [ExponentialAverage(0.9, 4)],
    "swa": lambda: [StochasticAverage(0.3, 4)],
}
VARYING = ("train/images_per_s", "train/step_s", "train/memory_gib")


class Losses(L.Callback):
    """Records (epoch, batch, loss) of each step, and the mask's sum, by which the samples are known."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float, int]] = []

    def on_train_batch_end(self, trainer: L.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((trainer.current_epoch, batch_idx, float(outputs["loss"]), int(batch["mask"].long().sum())))


class SendSignal(L.Callback):
    """Sends this process a signal in the middle of an epoch, as a scheduler does."""

    def __init__(self, number: signal.Signals, epoch: int, batch: int) -> None:
        self.number, self.at = number, (epoch, batch)

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        take_sigterm()

    def on_train_batch_end(self, trainer: L.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            os.kill(os.getpid(), self.number)


def train(folder: Path, callbacks: list[L.Callback], **options: Any) -> Losses:
    losses = Losses()
    logger = CSVLogger(str(folder / "metrics.csv"))
    options = {"log_every_n_steps": 1, "every_minutes": 0.0, "data": small_data(10)} | options
    try:
        fit(folder, small_task(), [*callbacks, losses], logger=[logger], **options)
    finally:
        logger.save()
    return losses


def rows(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in VARYING}
        for row in read_metrics(folder / "metrics.csv")
    ]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("extra", EXTRAS)
def test_a_training_stopped_anywhere_ends_bitwise_the_same(extra: str, accumulate: int, tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": accumulate, "epochs": 2}
    whole = train(tmp_path / "whole", EXTRAS[extra](), **options)
    folder, seen = tmp_path / "stopped", []
    for epoch, batch in ((0, 1), (0, 3), (1, 2), (1, 4)):
        with pytest.raises(KilledError):
            train(folder, [*EXTRAS[extra](), StopAt(epoch, batch)], **options)
    seen = train(folder, EXTRAS[extra](), **options).seen
    assert 0 < len(seen) < 5, "it goes on within the last epoch"
    assert seen == whole.seen[-len(seen) :]
    assert differing(checkpoint(tmp_path / "whole"), checkpoint(folder)) == []
    assert differing(checkpoint(tmp_path / "whole", "best"), checkpoint(folder, "best")) == []
    assert rows(folder) == rows(tmp_path / "whole")


def test_the_mean_loss_is_of_the_whole_epoch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", [], epochs=1)
    with pytest.raises(KilledError):
        train(tmp_path / "stopped", [StopAt(0, 3)], epochs=1)
    train(tmp_path / "stopped", [], epochs=1)
    expected = sum(loss for _, _, loss, _ in whole.seen) / len(whole.seen)
    assert rows(tmp_path / "stopped")[-1]["train/loss_epoch"] == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Has this process handle signals as a command does, but for the deadline."""
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_training_after_a_checkpoint_of_the_last_step(
    number: signal.Signals, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(StoppedError, match=str(128 + number)):
        train(tmp_path, [SendSignal(number, 1, 2)], every_minutes=None)
    assert f"{number.name}: the last checkpoint is of epoch 2, after batch 3 of 5; the same command" in caplog.text
    assert checkpoint(tmp_path)["global_step"] == 5 + 3
    assert load_weights(small_task(), tmp_path / "last.ckpt") == (1, 8), "one whole epoch"
    seen = train(tmp_path, [], epochs=2).seen
    assert [(epoch, batch) for epoch, batch, _, _ in seen] == [(1, 3), (1, 4)]


@pytest.mark.usefixtures("handlers")
def test_a_signal_in_the_last_step_of_an_epoch_without_validation(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="138"):
        train(tmp_path, [SendSignal(signal.SIGUSR1, 0, 4)], every_minutes=None, check_val_every_n_epoch=2)
    assert checkpoint(tmp_path)["global_step"] == 5


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_ends_the_training_at_once(tmp_path: Path) -> None:
    again = [SendSignal(signal.SIGINT, 1, 2), SendSignal(signal.SIGTERM, 1, 2)]
    with pytest.raises(StoppedError, match="143"):
        train(tmp_path, [*again], every_minutes=None)
    assert checkpoint(tmp_path)["global_step"] == 5, "that of the end of the first epoch"


def test_no_checkpoint_within_an_epoch_before_its_time(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, [StopAt(1, 3)], every_minutes=10)
    assert checkpoint(tmp_path)["global_step"] == 5, "that of the end of the first epoch"


def test_an_interval_passes_although_the_clock_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes, hours = itertools.count(step=4), itertools.count(step=-1)
    clock = SimpleNamespace(monotonic=lambda: 60.0 * next(minutes), time=lambda: 3600.0 * next(hours))
    monkeypatch.setattr("src.callbacks.checkpoints.time", clock)
    with pytest.raises(KilledError):
        train(tmp_path, [StopAt(0, 3)], every_minutes=10)
    assert checkpoint(tmp_path)["global_step"] == 3, "12 minutes after the start"


def test_only_one_rank_gets_the_sums_of_all_back() -> None:
    callback, state = BestAndLast("unused", "val/miou"), {WITHIN: {"losses": {"mean_value": torch.tensor(6.0)}}}
    for is_first, expected in ((True, 6.0), (False, 0.0)):
        task = small_task()
        trainer: Any = SimpleNamespace(is_global_zero=is_first, loggers=[])
        callback.on_load_checkpoint(trainer, task, state)
        assert float(task.mean_loss.mean_value) == expected


@pytest.mark.usefixtures("handlers")
def test_ranks_agree_only_at_the_steps_that_are_logged(tmp_path: Path) -> None:
    """They would wait for each other at each step. At batch 4 the other rank has got a signal."""
    asked, batch = [], 0

    def reduce(numbers: torch.Tensor, reduce_op: str) -> torch.Tensor:
        if reduce_op == "sum":
            return numbers
        asked.append(batch)
        return numbers.maximum(torch.tensor([int(signal.SIGTERM) if batch == 4 else 0, 0]))

    trainer: Any = SimpleNamespace(
        world_size=2, log_every_n_steps=2, accumulate_grad_batches=1, is_global_zero=False, current_epoch=0,
        strategy=SimpleNamespace(reduce=reduce, root_device=torch.device("cpu")), save_checkpoint=lambda path: None,
        num_training_batches=9, max_epochs=2,
    )  # fmt: skip
    callback, task = BestAndLast(str(tmp_path), "val/miou"), small_task()
    for batch in range(4):
        callback.on_train_batch_start(trainer, task, {}, batch)
    batch = 4
    with pytest.raises(StoppedError, match="143"):
        callback.on_train_batch_start(trainer, task, {}, batch)
    assert asked == [2, 4]


def test_minutes_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoints\.every_minutes=-1: must be at least 0, or null"):
        BestAndLast(str(tmp_path), "val/miou", -1)


def test_the_speed_and_the_time_left_are_those_of_the_session(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, [Lines(), StopAt(1, 3)], epochs=3)
    lines = Lines()
    began = time.perf_counter()
    train(tmp_path, [lines], epochs=3)
    longest = time.perf_counter() - began
    assert lines._first == pytest.approx(1 + 3 / 5)
    assert 0 < lines.seconds_left(SimpleNamespace(max_epochs=3), 2.3) < 2 * longest  # pyright: ignore[reportArgumentType]
    speeds = [row for row in read_metrics(tmp_path / "metrics.csv") if row.get("train/step_s")]
    for row in speeds[-7:]:
        assert row["train/images_per_s"] * row["train/step_s"] == pytest.approx(2, rel=1e-3), "2 images per batch"
        assert row["train/step_s"] < longest


def test_the_samples_of_a_continued_epoch_are_those_that_are_left() -> None:
    data: SegmentationDataModule = small_data(10)
    keys = list(data.train_dataloader().sampler)
    data.load_state_dict({"epochs_done": 0, "batches_done": 3})
    sampler: Any = data.train_dataloader().sampler
    assert list(sampler) == keys[6:]
    sampler.set_epoch(0)
    assert list(sampler) == keys[6:]
    sampler.set_epoch(1)
    assert len(list(sampler)) == 10
    data.load_state_dict({"epochs_done": 2})
    assert len(list(data.train_dataloader().sampler)) == 10


def test_nothing_passes_through_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning writes checkpoints into it first; a small one would end the training."""
    full = tmp_path / "no folder"
    monkeypatch.setenv("TMPDIR", str(full))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda *_: str(full))
    train(tmp_path / "run", [], epochs=1)
    assert checkpoint(tmp_path / "run")["global_step"] == 5
    assert not full.exists()
