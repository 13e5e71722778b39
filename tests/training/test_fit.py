"""Faults in the middle of a training, without a command."""

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from src.config.messages import user_message
from src.data.datamodule import SegmentationDataModule
from src.data.sources.camvid import CamVid
from src.errors import UserError
from src.training.memory import naming_memory
from tests.support.helpers import explode_in_second_epoch
from tests.support.small import checkpoint, differing, fit, sgd, small_data, small_task, small_trainer
from tests.support.trees import write_camvid


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The rate explodes in the second epoch: after one step at 1e38 the weights are no numbers any more."""
    task = small_task(partial(sgd), explode_in_second_epoch)
    with pytest.raises(
        UserError, match=r"^train/loss is not finite at step 4 \(epoch 1\); the last good checkpoint is"
    ):
        fit(tmp_path, task, log_every_n_steps=1)
    for name in ("last", "best"):
        state = checkpoint(tmp_path, name)
        assert state["epoch"] == 0
        assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


class Fault(L.Callback):
    """Does something before a step of the second epoch."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work

    def on_train_batch_start(self, trainer: L.Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 1):
            self.work()


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            r"^not enough GPU memory for",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            r"^not enough memory for",
        ),
    ],
)
def test_a_full_memory_names_what_can_be_lowered(error: RuntimeError, message: str, tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, [Fault(lambda: fail(error))])
    names = {"batch_size": 2, "crop_size": [64, 64], "eval_batch_size": 1}
    with (
        pytest.raises(UserError, match=message + r".*batch_size=2, data\.crop_size=\[64, 64\] .*precision=32-true"),
        naming_memory(trainer, names),
    ):
        trainer.fit(small_task(), small_data())
    assert checkpoint(tmp_path)["global_step"] == 3, "the checkpoint before it stays"


def test_other_errors_are_not_about_memory(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, [Fault(lambda: fail(RuntimeError("shapes differ")))])
    with pytest.raises(RuntimeError, match="shapes differ"), naming_memory(trainer, {}):
        trainer.fit(small_task(), small_data())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_leaves_the_checkpoint_before(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        monkeypatch.setattr("torch.save", lambda *_: fail(OSError(number, "refused", str(tmp_path / "last.ckpt"))))

    with pytest.raises(OSError, match="refused") as raised:
        fit(tmp_path, small_task(), [Fault(refuse)])
    monkeypatch.undo()
    assert str(tmp_path / "last.ckpt") in (user_message(raised.value, "train") or "")
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert checkpoint(tmp_path)["global_step"] == 3
    fit(tmp_path, small_task())
    fit(tmp_path / "whole", small_task())
    assert differing(checkpoint(tmp_path), checkpoint(tmp_path / "whole")) == []


def test_an_image_that_vanishes_in_the_middle_is_named(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", {"train": 8, "val": 2}, (64, 64))
    source = CamVid(str(root), labels="merged")
    data = SegmentationDataModule(source, None, 2, 1, 0, seed=0)
    task = small_task()
    images = sorted((root / "train").glob("*.png"))
    with pytest.raises(UserError, match=r"train/.*\.png"):
        fit(tmp_path / "run", task, [Fault(lambda: [path.unlink() for path in images])], data)
    assert checkpoint(tmp_path / "run")["epoch"] == 0
