"""A training without a bar prints one line per epoch, with speed and time left."""

import logging
import re
from pathlib import Path

import pytest

from src.callbacks.progress import EpochLines, epoch_line
from tests.support.small import fit, small_task


def test_the_line_of_an_epoch() -> None:
    figures = {"train/loss_epoch": 0.12345, "val/miou": 0.5, "train/images_per_s": 12.345, "lr/head": 1.0}
    expected = "epoch 3/8: loss 0.1235, val mIoU 0.5000, 12.3 images/s, 0:01:15 left"
    assert epoch_line(3, 8, figures, 75.2) == expected
    assert epoch_line(8, 8, {}, 0.0) == "epoch 8/8: 0:00:00 left"


def test_each_epoch_has_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "src.callbacks.progress"):
        fit(tmp_path, small_task(), [EpochLines()], epochs=2)
    lines = [record.getMessage() for record in caplog.records if record.name == "src.callbacks.progress"]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(re.search(r"val mIoU 0\.\d{4}, [\d.e+]+ images/s, \d:\d\d:\d\d left$", line) for line in lines)
