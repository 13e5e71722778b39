"""Early stopping: the count goes on after a kill, and a run that has ended trains no epoch more."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from src.callbacks.early_stopping import EarlyStopping
from tests.support.small import KilledError, StopAt, checkpoint, fit, small_task


class Figures(L.Callback):
    """Puts the next of some figures in the place of val/miou; comes before what reads it."""

    def __init__(self, *figures: float) -> None:
        self.figures = figures

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            task.log("val/miou", self.figures[trainer.current_epoch])


def run(folder: Path, patience: int, *more: Any) -> int:
    """Trains up to 8 epochs by a task without a figure of its own; returns the number of epochs trained."""
    task = small_task()
    task.on_validation_epoch_end = lambda: task.confusion.reset()  # pyright: ignore[reportAttributeAccessIssue]
    callbacks = [Figures(0.1, 0.3, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3), EarlyStopping(patience), *more]
    return fit(folder, task, callbacks, epochs=8).current_epoch


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 8), (8, 8)])
def test_it_ends_after_so_many_validations_without_a_better_one(
    patience: int, epochs: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Figures .1 .3 .2 .3 .4 .1 .2 .3: .3 is not better than .3, .4 is."""
    with caplog.at_level(logging.INFO, "src.callbacks.early_stopping"):
        assert run(tmp_path, patience) == epochs
    said = [record.getMessage() for record in caplog.records if "ended early" in record.getMessage()]
    text = f"ended early after epoch {epochs} of 8: val/miou has not risen above 0.3000 in {patience} validations"
    assert [each.startswith(text) for each in said] == ([True] if epochs < 8 else [])
    assert checkpoint(tmp_path)["epoch"] == epochs - 1


def test_the_count_goes_on_after_a_kill(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, 2, StopAt(3, 0))
    assert checkpoint(tmp_path)["epoch"] == 2
    assert run(tmp_path, 2) == 4


def test_a_run_that_has_ended_trains_no_epoch_more(tmp_path: Path) -> None:
    assert run(tmp_path, 2) == 4
    before = (tmp_path / "last.ckpt").read_bytes()
    assert run(tmp_path, 2) == 4
    assert (tmp_path / "last.ckpt").read_bytes() == before
