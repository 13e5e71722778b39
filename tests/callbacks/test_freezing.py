"""Frozen backbones and BatchNorm: nothing of them changes while they are frozen, and everything afterwards."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from src.callbacks.freezing import Freezing
from tests.support.small import KilledError, Small, StopAt, adamw, checkpoint, differing, fit, sgd, small_task


class Watch(L.Callback):
    """Records the network's state, its trainable parameters and its modes at every step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []
        self.wanting: list[set[str]] = []
        self.modes: list[dict[str, bool]] = []

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
        network = task.network
        self.states.append({name: value.clone() for name, value in network.state_dict().items()})
        self.wanting.append({name for name, parameter in network.named_parameters() if parameter.requires_grad})
        self.modes.append({name: module.training for name, module in network.named_modules()})


def pretrained() -> Small:
    """A network whose encoder's BatchNorm comes with statistics, and whose head's does not."""
    network = Small()
    network.encoder[1].running_mean.fill_(0.5)
    return network


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("optimizer", [sgd, adamw])  # momentum, weight decay on and off the weights
def test_a_frozen_backbone_does_not_move_and_then_does(optimizer: partial, tmp_path: Path) -> None:
    watch, task = Watch(), small_task(optimizer, architecture=pretrained)
    initial = {name: value.clone() for name, value in task.network.state_dict().items()}
    fit(tmp_path, task, [Freezing(2, 0), watch], epochs=3, gradient_clip_val=1.0)
    assert len(watch.states) == 9
    for state, wanting, modes in zip(watch.states[:6], watch.wanting, watch.modes, strict=False):
        assert not any("encoder" in name for name in moved(initial, state)), "weights, statistics, all of it"
        assert not any("encoder" in name for name in wanting)
        assert not modes["architecture.encoder.1"]
        assert modes["architecture.head.1"]
    assert any("head" in name for name in moved(initial, watch.states[5]))
    parameters = {name for name, _ in task.network.named_parameters()}
    assert watch.wanting[6] == parameters
    assert watch.modes[6]["architecture.encoder.1"]
    assert parameters <= moved(watch.states[5], watch.states[8])
    assert "architecture.encoder.1.running_mean" in moved(watch.states[5], watch.states[6])


def test_only_batchnorm_with_statistics_is_frozen(tmp_path: Path) -> None:
    watch, task = Watch(), small_task(architecture=pretrained)
    initial = {name: value.clone() for name, value in task.network.state_dict().items()}
    fit(tmp_path, task, [Freezing(0, 2), watch], epochs=3)
    held = {name for name in initial if name.startswith("architecture.encoder.1.")}
    assert len(held) == 5
    for state in watch.states[:6]:
        assert not moved(initial, state) & held
    assert "architecture.encoder.0.weight" in moved(initial, watch.states[0])
    assert "architecture.head.1.running_mean" in moved(initial, watch.states[0])
    assert held <= moved(watch.states[5], watch.states[8])


def test_batchnorm_may_be_frozen_longer_than_the_backbone(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, small_task(architecture=pretrained), [Freezing(1, 2), watch], epochs=3)
    moving = [moved(watch.states[i], watch.states[i + 1]) for i in (1, 4, 7)]
    for name, epochs in (("0.weight", [False, True, True]), ("1.weight", [False, False, True])):
        assert [f"architecture.encoder.{name}" in changed for changed in moving] == epochs, name


@pytest.mark.parametrize("at", [(0, 1), (1, 1), (2, 1)])
def test_a_resumed_run_is_bitwise_the_same(at: tuple[int, int], tmp_path: Path) -> None:
    """Killed before, at and after the epoch in which the backbone is trained again; by then the head's BatchNorm has
    statistics, but it is not frozen."""

    def train(folder: Path, *more: L.Callback) -> None:
        task = small_task(sgd, architecture=pretrained)
        fit(folder, task, [Freezing(2, 3), *more], epochs=4)

    train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "killed", StopAt(*at))
    train(tmp_path / "killed")
    ours, theirs = checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole")
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        assert not differing(ours[part], theirs[part]), part


@pytest.mark.parametrize(
    ("freezing", "message"),
    [
        (Freezing(3, 0), r"freeze.backbone_epochs=3: this network has no backbone; set it to 0"),
        (Freezing(0, 3), r"freeze.batchnorm_epochs=3: no BatchNorm layer of this network has statistics yet"),
    ],
)
def test_freezing_nothing_is_refused(freezing: Freezing, message: str, tmp_path: Path) -> None:
    task = small_task()
    if freezing.backbone_epochs:
        del task.network.architecture.encoder
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, task, [freezing])
