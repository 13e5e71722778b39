"""Checkpoints hold the figures logged so far; those that a training cannot continue from are refused."""

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch

from src.callbacks.checkpoints import BestAndLast
from src.callbacks.csv_logger import CSVLogger
from src.errors import UserError
from src.evaluation.checkpoint import ANOTHER, check_continues, load_weights, read_checkpoint
from src.runs.metrics_csv import Row, holds, read_metrics
from src.runs.seal import seal
from tests.support.small import KilledError, StopAt, fit, small_task

DAMAGES: dict[str, Callable[[Path], Any]] = {
    "row lost": lambda path: path.write_bytes(path.read_bytes().rstrip().rpartition(b"\r\n")[0] + b"\r\n"),
    "rows lost": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3])),
    "first rows lost": lambda path: path.write_bytes(
        b"".join(line for number, line in enumerate(path.read_bytes().splitlines(keepends=True)) if number != 1)
    ),
    "cut in a row": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "random": lambda path: path.write_bytes(bytes(range(256))),
    "another number": lambda path: path.write_bytes(path.read_bytes().replace(b"\r\n2,0,", b"\r\n2,0,9", 1)),
    "missing": lambda path: path.unlink(),
}


def trained(folder: Path, *, stop: bool = False) -> list[Row]:
    logger = CSVLogger(str(folder / "metrics.csv"))
    options = {"logger": [logger], "log_every_n_steps": 1, "epochs": 3}
    if stop:
        with pytest.raises(KilledError):
            fit(folder, small_task(), [StopAt(2, 1)], **options)
        logger.save()
    else:
        fit(folder, small_task(), **options)
    return [
        {key: value for key, value in row.items() if "_s" not in key} for row in read_metrics(folder / "metrics.csv")
    ]


@pytest.mark.parametrize(("every", "expected"), [(2, [1, 2]), (9, [2])])
def test_the_last_epoch_is_always_validated(every: int, expected: list[int], tmp_path: Path) -> None:
    class Validated(L.Callback):
        epochs: ClassVar[list[int]] = []

        def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
            if not trainer.sanity_checking:
                self.epochs.append(trainer.current_epoch)

    fit(tmp_path, small_task(), [seen := Validated()], epochs=3, check_val_every_n_epoch=every)
    assert seen.epochs == expected
    assert (tmp_path / "best.ckpt").is_file()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    return trained(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was stopped in its last epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    trained(folder, stop=True)
    return folder


def test_a_continued_training_has_the_rows_of_one_that_was_not_stopped(whole, stopped, tmp_path: Path, caplog) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    with caplog.at_level(logging.WARNING):
        again = trained(tmp_path)
    assert holds(again, whole)
    assert "metrics.csv" not in caplog.text


def test_a_training_goes_on_after_figures_that_were_lost(whole, stopped, tmp_path: Path, caplog) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    DAMAGES["rows lost"](tmp_path / "metrics.csv")
    again = trained(tmp_path)
    assert "metrics.csv: lacks figures that the last checkpoint has, or has others; it is written anew" in caplog.text
    assert [row["step"] for row in again] == [row["step"] for row in whole]
    for row, expected in zip(again, whole, strict=True):
        lost = {key for key, value in expected.items() if row.get(key) != value and not math.isnan(value)}
        assert lost <= {"train/loss_epoch"}, "logged after the checkpoint"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_metrics_csv_is_known_by_the_checkpoint(damage: str, stopped, tmp_path: Path, caplog) -> None:
    recorded = torch.load(stopped / "last.ckpt", weights_only=True)["figures"]
    path = tmp_path / "metrics.csv"
    lines = (stopped / "metrics.csv").read_bytes().splitlines(keepends=True)
    assert len(lines) > 1 + len(recorded) > 3, "steps after the checkpoint, which are repeated"
    path.write_bytes(b"".join(lines))
    logger = CSVLogger(str(path))
    logger.restore(recorded)
    assert holds(logger.rows, recorded)
    assert not caplog.text
    path.write_bytes(b"".join(lines[: 1 + len(recorded)]))
    DAMAGES[damage](path)
    logger.restore(recorded)
    assert logger.rows == recorded
    assert "it is written anew, by the figures in the checkpoint" in caplog.text


def test_figures_that_are_not_numbers_are_the_same() -> None:
    row = {"step": 1, "val/iou/x": math.nan}
    assert holds([{**row, "train/loss": 2.0}], [row])
    assert not holds([{"step": 1, "val/iou/x": 0.5}], [row])
    assert not holds([{"step": 1}], [row])
    assert not holds([], [row])


def test_a_best_checkpoint_that_is_gone_is_named_before_the_training(tmp_path: Path) -> None:
    callback = BestAndLast(str(tmp_path), "val/miou")
    callback.load_state_dict({"best_score": -math.inf})  # not validated yet
    with pytest.raises(UserError, match=r"best\.ckpt: is missing, and the result .* resume=false"):
        callback.load_state_dict({"best_score": 0.5})


WHOLE = {"state_dict": {"a": torch.ones(2)}, "epoch": 0, "global_step": 1}
FOREIGN: dict[str, Any] = {
    "state dict": WHOLE["state_dict"],
    "other key": {"model_state_dict": WHOLE["state_dict"], "epoch": 0},
    "no epoch": {key: value for key, value in WHOLE.items() if key != "epoch"},
    "epoch of another kind": {**WHOLE, "epoch": "0"},
    "no tensors": {**WHOLE, "state_dict": {"a": 1}},
    "list": [1, 2],
    "tensor": torch.ones(2),
    "null": None,
    "module": torch.nn.ReLU(),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("sealed", [False, True])
def test_whole_checkpoints_of_other_programs_are_refused(kind: str, sealed: bool, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save(FOREIGN[kind], path)
    if sealed:
        seal(path)
    for call in (lambda: load_weights(small_task(), path), lambda: check_continues(small_task(), path)):
        with pytest.raises(
            UserError, match=r"best\.ckpt: .*checkpoint of this program.*(checkpoint=best|resume=false)"
        ):
            call()


def test_checkpoints_in_the_older_format_are_refused(tmp_path: Path) -> None:
    torch.save(WHOLE, tmp_path / "best.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"best\.ckpt: is damaged \(it is cut off, or no checkpoint\)"):
        read_checkpoint(tmp_path / "best.ckpt", ANOTHER)


def test_a_training_continues_only_from_its_own_network(tmp_path: Path) -> None:
    fit(tmp_path, small_task(), epochs=1)
    path = tmp_path / "last.ckpt"
    check_continues(small_task(), path)
    content = torch.load(path, weights_only=True)
    name = "network.architecture.head.0.weight"
    for state in ({**content["state_dict"], name: torch.ones(1)}, {**content["state_dict"], "more": torch.ones(1)}):
        torch.save({**content, "state_dict": state}, path)
        with pytest.raises(UserError, match=r"last\.ckpt: does not fit the network .*1 tensors differ.*resume=false"):
            check_continues(small_task(), path)
    torch.save({key: value for key, value in content.items() if key != "optimizer_states"}, path)
    with pytest.raises(UserError, match=r"it has no optimizer_states\).*init_from=FILE"):
        check_continues(small_task(), path)
