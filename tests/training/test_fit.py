"""The parts of a training that need no command: SyncBatchNorm, and a loss that is not finite."""

from functools import partial
from pathlib import Path

import pytest
import torch

from src.errors import UserError
from src.training.fit import synchronises_batchnorm
from tests.support.helpers import explode_in_second_epoch
from tests.support.small import checkpoint, fit, sgd, small_task


@pytest.mark.parametrize(
    ("given", "devices", "accelerator", "has_cuda", "expected"),
    [
        ("auto", 2, "auto", True, True),
        ("auto", 2, "cpu", True, False),
        ("auto", 2, "auto", False, False),
        ("auto", 1, "gpu", True, False),
        (False, 2, "gpu", True, False),
        (True, 2, "gpu", True, True),
    ],
)
def test_batchnorm_is_synchronised_on_several_gpus(
    given: bool | str, devices: int, accelerator: str, has_cuda: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert synchronises_batchnorm(given, accelerator, several_devices=devices > 1) is expected


def test_several_cpus_have_no_synchronised_batchnorm() -> None:
    with pytest.raises(UserError, match=r"trainer\.sync_batchnorm=true: SyncBatchNorm exists only on GPUs; set it to"):
        synchronises_batchnorm(True, "cpu", several_devices=True)
    assert synchronises_batchnorm(True, "cpu", several_devices=False), "on one CPU it changes nothing"


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
