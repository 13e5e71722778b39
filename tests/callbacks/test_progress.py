"""A log file gets lines, per epoch and within long ones, with speed and time left; a terminal has a bar."""

import logging
import re
import resource
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from src.callbacks.csv_logger import CSVLogger
from src.callbacks.progress import Lines, Progress, line, peak_memory
from src.runs.metrics_csv import read_metrics, series
from tests.support.small import fit, small_data, small_task


def test_the_line_of_an_epoch() -> None:
    figures = {"train/loss": 9.0, "train/loss_epoch": 0.12345, "val/miou": 0.5, "train/images_per_s": 12.345}
    assert line(3, 8, figures, 75.2) == "epoch 3/8: loss 0.1235, val mIoU 0.5000, 12.3 images/s, 0:01:15 left"
    assert line(8, 8, {}, 0.0) == "epoch 8/8: 0:00:00 left"
    within = line(3, 8, figures | {"lr/head": 1.0}, 75.2, (40, 371))
    assert within == "epoch 3/8, batch 40/371: loss 9, val mIoU 0.5000, 12.3 images/s, 0:01:15 left"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "src.callbacks.progress"]


def test_each_epoch_has_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "src.callbacks.progress"):
        fit(tmp_path, small_task(), [Lines()], epochs=2)
    assert [text.partition(":")[0] for text in lines(caplog)] == ["epoch 1/2", "epoch 2/2"]
    assert all(re.search(r"val mIoU 0\.\d{4}, [\d.e+]+ images/s, \d:\d\d:\d\d left$", text) for text in lines(caplog))


def test_a_line_has_no_figures_of_an_earlier_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "src.callbacks.progress"):
        fit(tmp_path, small_task(), [Lines()], epochs=4, check_val_every_n_epoch=2)
    assert ["val mIoU" in text for text in lines(caplog)] == [False, True, False, True]


def test_long_epochs_have_lines_within(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "src.callbacks.progress"):
        fit(tmp_path, small_task(), [Lines(every_s=0.0)], epochs=2)
    begin = [text.partition(":")[0] for text in lines(caplog)]
    within = [f"epoch {epoch}/2, batch {batch}/3" for epoch in (1, 2) for batch in (1, 2)]
    assert begin == [*within[:2], "epoch 1/2", *within[2:], "epoch 2/2"]


def test_the_time_left_is_that_of_the_whole_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every batch takes a second, by a clock of our own: 3 batches per epoch, 4 epochs."""
    now = [1000.0]

    class Tick(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            now[0] += 1.0

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO, "src.callbacks.progress"):
        patch.setattr(time, "perf_counter", lambda: now[0])
        logger = CSVLogger(str(tmp_path / "metrics.csv"))
        fit(tmp_path, small_task(), [Tick(), Lines()], epochs=4, logger=logger, log_every_n_steps=1)
    left = [re.findall(r"(\d:\d\d:\d\d) left", text)[0] for text in lines(caplog)]
    assert left == ["0:00:09", "0:00:06", "0:00:03", "0:00:00"]
    rows = read_metrics(tmp_path / "metrics.csv")
    # The clock of an epoch starts before its first batch.
    assert set(series(rows, "train/step_s")[1]) == {1.0}
    assert set(series(rows, "train/images_per_s")[1]) == {2.0}


def test_memory_is_that_of_this_process() -> None:
    status = Path("/proc/self/status").read_text()
    most = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    assert peak_memory(torch.device("cpu")) == pytest.approx(most, rel=0.02)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


def test_the_bar_has_the_time_left_for_the_whole_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[Progress()], logger=False, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(small_task(), small_data())
    shown = "".join(capfd.readouterr())
    assert re.search(r"Epoch 1: .*left=0:00:00", shown)
