"""Two processes: a frozen backbone, an average, a plateau; what BatchNorm sees."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.runs.folder import RunFolder
from src.train import synchronises_batchnorm
from src.training.banner import batchnorm_notes
from tests.support.paths import ROOT, TINY
from tests.support.small import Small, differing, small_task

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
    assert "each process has BatchNorm of its own batches (SyncBatchNorm exists on GPUs alone)" in result.stdout
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
    (both,) = run.read_results()["evaluations"].values()
    cli("eval", f"run={run.path}", "accelerator=cpu")
    (alone,) = run.read_results()["evaluations"].values()
    assert both["matrix"] == alone["matrix"]
    assert np.sum(both["matrix"]) > 4.5 * 64 * 96 * 0.9, "all five images count, each once"
    assert len(run.read_environment()["sessions"]) == 1


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
def test_batchnorm_is_synchronised_where_it_can_be(
    given: object, devices: int, accelerator: str, has_cuda: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    trainer = {"sync_batchnorm": given, "devices": devices, "accelerator": accelerator}
    assert synchronises_batchnorm(OmegaConf.create({"trainer": trainer})) is expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.sync_batchnorm=true", "trainer.sync_batchnorm=true: SyncBatchNorm exists on GPUs alone"),
        ("trainer.sync_batchnorm=maybe", "trainer.sync_batchnorm=maybe: must be auto, true or false"),
        ("find_lr=true", "find_lr=true: runs on one device, and trainer.devices=2; set trainer.devices=1"),
    ],
)
def test_what_several_cpus_cannot_do_is_refused(fails, override: str, message: str, tmp_path: Path) -> None:
    assert message in fails("train", *TINY[1:], *TWO, override, f"runs={tmp_path}")


@pytest.mark.parametrize(
    ("batch", "world", "synchronised", "frozen", "expected"),
    [
        (8, 1, False, 0, []),
        (7, 1, False, 0, ["BatchNorm over 7 images; below 8"]),
        (2, 4, True, 0, []),
        (2, 2, True, 0, ["BatchNorm over 4 images; below 8"]),
        (4, 2, False, 0, ["trainer.sync_batchnorm=true would join them", "BatchNorm over 4 images a device; below 8"]),
        (2, 1, False, 3, []),
        (2, 1, False, 2, ["BatchNorm over 2 images; below 8"]),
    ],
)
def test_few_images_for_batchnorm_are_noted(
    batch: int, world: int, synchronised: bool, frozen: int, expected: list[str]
) -> None:
    """The accumulated batches do not count; BatchNorm that is held in all of 3 epochs needs none."""
    cfg = OmegaConf.create(
        {
            "data": {"batch_size": batch},
            "freeze": {"batchnorm_epochs": frozen},
            "trainer": {"max_epochs": 3, "sync_batchnorm": synchronised, "accumulate_grad_batches": 8},
        }
    )
    trainer = SimpleNamespace(world_size=world, strategy=SimpleNamespace(root_device=torch.device("cuda")))
    notes = batchnorm_notes(cfg, small_task(), trainer)
    assert len(notes) == len(expected)
    for note, part in zip(notes, expected, strict=True):
        assert part in note
    without = small_task(architecture=lambda: Small(batchnorm=False))
    assert batchnorm_notes(cfg, without, trainer) == []
