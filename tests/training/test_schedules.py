"""Schedules against closed forms and torch's own, and through a real checkpoint."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from src.training.schedules import constant, cosine, one_cycle, plateau, poly, step
from tests.support.small import KilledError, Rates, StopAt, adamw, checkpoint, differing, fit, small_data, small_task

STEPS, EPOCH = 100, 10


def optimizer() -> torch.optim.Optimizer:
    """Two groups, since every schedule scales each group from its own rate."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD(
        [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 1.0}], lr=0.1, momentum=0.9
    )


def rates(schedule: Callable, steps: int = STEPS) -> list[float]:
    """Lists the rate of each step, and that after the last; the second group has ten times as much."""
    opt = optimizer()
    scheduler = schedule(opt, total_steps=steps, steps_per_epoch=EPOCH)
    result = []
    for _ in range(steps + 1):
        result.append(opt.param_groups[0]["lr"])
        assert opt.param_groups[1]["lr"] == pytest.approx(10 * result[-1])
        opt.step()
        if len(result) <= steps:
            scheduler.step()
    return result


def test_poly() -> None:
    lr = rates(partial(poly, power=0.9, warmup_epochs=0))
    assert lr[0] == 0.1
    assert lr[50] == pytest.approx(0.1 * 0.5**0.9)
    assert lr[99] == pytest.approx(0.1 * 0.01**0.9)
    assert lr[100] == 0


def test_poly_with_warm_up_and_floor() -> None:
    """SCTNet's schedule: power 1 to a floor, here over the 80 steps after a warm-up of 20."""
    lr = rates(partial(poly, power=1.0, warmup_epochs=2, floor=0.25))
    assert lr[0] == pytest.approx(0.1 / 20)
    assert lr[19] == pytest.approx(0.1)
    assert lr[20] == pytest.approx(0.1)
    assert lr[60] == pytest.approx(0.025 + 0.075 / 2)
    assert lr[99] == pytest.approx(0.025 + 0.075 / 80)
    assert lr[100] == pytest.approx(0.025)


def test_cosine_with_warm_up_and_floor() -> None:
    lr = rates(partial(cosine, warmup_epochs=2, floor=0.05))
    assert lr[0] == pytest.approx(0.1 / 20)
    assert lr[19] == pytest.approx(0.1)
    assert lr[20] == pytest.approx(0.1)
    assert lr[60] == pytest.approx(0.1 * (0.05 + 0.95 / 2))
    assert lr[99] == pytest.approx(0.1 * (0.05 + 0.95 * (1 + math.cos(math.pi * 79 / 80)) / 2))
    assert lr[100] == pytest.approx(0.005)


def test_r0_states_ten_epochs_of_warm_up_and_a_floor_of_5e_5() -> None:
    """The floor is 5e-3 of lr 1e-2; here 10 of 100 epochs are 10 of 100 steps."""
    lr = [10 * rate for rate in rates(partial(cosine, warmup_epochs=1, floor=5e-3))]
    assert lr[0] / 100 == pytest.approx(1e-3)
    assert lr[9] / 100 == pytest.approx(1e-2)
    assert lr[100] / 100 == pytest.approx(5e-5)


def test_constant() -> None:
    lr = rates(partial(constant, warmup_epochs=1))
    assert lr[:10] == pytest.approx([0.01 * i for i in range(1, 11)])
    assert lr[10:] == pytest.approx([0.1] * 91)


def test_step_decay() -> None:
    """R3's gamma .2, here every 3 epochs; the warm-up does not shift the cuts."""
    lr = rates(partial(step, every_epochs=3, gamma=0.2, warmup_epochs=0.5))
    assert lr[0] == pytest.approx(0.02)
    assert lr[4] == pytest.approx(0.1)
    assert lr[29] == pytest.approx(0.1)
    assert lr[30] == pytest.approx(0.02)
    assert lr[59] == pytest.approx(0.02)
    assert lr[60] == pytest.approx(0.004)
    assert lr[99] == pytest.approx(0.1 * 0.2**3)


def test_one_cycle() -> None:
    opt = optimizer()
    scheduler = one_cycle(opt, STEPS, EPOCH, rise=0.3, start=0.04, end=4e-6, cycle_momentum=True)
    reference_opt = optimizer()
    reference = OneCycleLR(reference_opt, max_lr=[0.1, 1.0], total_steps=STEPS)  # torch's defaults are the same
    lr, momentum = [], []
    for _ in range(STEPS):
        group, expected = opt.param_groups[0], reference_opt.param_groups[0]
        lr.append(group["lr"])
        momentum.append(group["momentum"])
        assert group["lr"] == pytest.approx(expected["lr"])
        assert group["momentum"] == pytest.approx(expected["momentum"])
        for each in (opt, reference_opt, scheduler, reference):
            each.step()
    assert lr[0] == pytest.approx(0.004)
    assert lr[29] == pytest.approx(0.1)
    middle = (29 + 99) // 2
    assert lr[middle] == pytest.approx((0.1 + 4e-7) / 2)
    assert lr[99] == pytest.approx(4e-7)
    assert (momentum[0], momentum[29]) == pytest.approx((0.95, 0.85))


def test_one_cycle_that_rises_in_one_step() -> None:
    """A hundredth of 100 steps; torch's own divides by zero."""
    opt = optimizer()
    scheduler = one_cycle(opt, STEPS, EPOCH, rise=1 / STEPS, start=0.04, end=4e-6, cycle_momentum=True)
    lr = []
    for _ in range(STEPS):
        lr.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    fall = [0.05 * (1 + math.cos(math.pi * step / 99)) for step in range(1, STEPS)]
    assert lr == pytest.approx([0.004, *fall], abs=1e-6)


FIGURES = [0.1, 0.2, 0.2, 0.20001, 0.19, 0.3, float("nan"), 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.4, 0.4, 0.4, 0.4]


def test_plateau_decides_as_torchs_does() -> None:
    opt = optimizer()
    scheduler = plateau(opt, STEPS, EPOCH, factor=0.5, patience=2, warmup_epochs=0)
    reference_opt = optimizer()
    reference = ReduceLROnPlateau(reference_opt, mode="max", factor=0.5, patience=2)
    seen = []
    for figure in FIGURES:
        for _ in range(3):
            opt.step()
            scheduler.step()
        scheduler.observe(figure)
        reference.step(figure)
        assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in reference_opt.param_groups]
        seen.append(opt.param_groups[0]["lr"])
    assert seen == [0.1] * 4 + [0.05] * 4 + [0.025] * 3 + [0.0125] * 5 + [0.00625]


def test_plateau_after_a_warm_up_and_down_to_a_floor() -> None:
    opt = optimizer()
    scheduler = plateau(opt, STEPS, EPOCH, factor=0.5, patience=0, warmup_epochs=0.4, floor=0.3)
    seen = []
    for _ in range(6):
        seen.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    assert seen == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    for figure, lr in ((0.5, 0.1), (0.5, 0.05), (0.4, 0.03), (0.3, 0.03)):
        scheduler.observe(figure)
        assert opt.param_groups[0]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (partial(cosine, warmup_epochs=10, floor=0.0), r"warmup_epochs=10: 100 steps of the run's 100; lower it"),
        (partial(constant, warmup_epochs=-1), r"warmup_epochs=-1: .*must not be negative"),
        (partial(poly, power=1, warmup_epochs=0, floor=2), r"scheduler.floor=2: must be 0 to 1"),
        (partial(poly, power=-1, warmup_epochs=0), r"scheduler.power=-1: must not be negative"),
        (partial(step, every_epochs=1, gamma=-0.5, warmup_epochs=0), r"scheduler.gamma=-0.5: must be above 0"),
        (partial(step, every_epochs=0, gamma=0.1, warmup_epochs=0), r"scheduler.every_epochs=0: must be a whole"),
        (partial(plateau, factor=2, patience=1, warmup_epochs=0), r"scheduler.factor=2: must be above 0 and below 1"),
        (partial(plateau, factor=0.5, patience=1.5, warmup_epochs=0), r"scheduler.patience=1.5: must be a whole"),
        (partial(one_cycle, rise=1, start=0.1, end=0.1, cycle_momentum=True), r"scheduler.rise=1: must be above 0"),
        (partial(one_cycle, rise=0.5, start=0.1, end=0.2, cycle_momentum=True), r"scheduler.end=0.2: must be 0 < end"),
    ],
)
def test_wrong_options_are_refused(schedule: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(schedule)


SCHEDULES = {
    "poly": partial(poly, power=0.9, warmup_epochs=1, floor=0.01),
    "cosine": partial(cosine, warmup_epochs=0.5, floor=0.05),
    "constant": partial(constant, warmup_epochs=2),
    "step": partial(step, every_epochs=2, gamma=0.2, warmup_epochs=1),
    "one_cycle": partial(one_cycle, rise=0.3, start=0.04, end=4e-6, cycle_momentum=True),
    # A threshold that no figure passes: patience 0 cuts the rate after every validation but the first.
    "plateau": partial(plateau, factor=0.5, patience=0, warmup_epochs=1, threshold=1e6),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_run_is_bitwise_the_same(name: str, tmp_path: Path) -> None:
    """Killed in its third epoch, in the middle of the schedule; rates, weights and optimizer states are the same."""

    def train(folder: Path, *callbacks: StopAt) -> Rates:
        seen = Rates()
        optimizer = partial(adamw, backbone_lr_scale=0.1)
        try:
            fit(folder, small_task(optimizer, SCHEDULES[name]), [seen, *callbacks], epochs=5)
        except KilledError:
            assert callbacks
        return seen

    whole = train(tmp_path / "whole").seen
    first = train(tmp_path / "killed", StopAt(2, 1)).seen
    second = train(tmp_path / "killed").seen
    assert len(whole) == 15
    assert min(second) == (2, 0), "the epoch that was not finished comes again"
    assert first | second == whole
    assert all(first[key] == second[key] for key in first.keys() & second.keys())
    ours, theirs = checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert not differing(ours[part], theirs[part]), part
    if name == "plateau":
        assert [whole[epoch, 2][-1] for epoch in range(5)] == [0.01, 0.01, 0.005, 0.0025, 0.00125]


def test_a_schedule_counts_optimiser_steps(tmp_path: Path) -> None:
    """7 batches, 3 per step, make 3 steps per epoch in Lightning, the last of one batch."""
    seen, asked = Rates(), {}

    def schedule(optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int) -> object:
        asked.update(total=total_steps, epoch=steps_per_epoch)
        return poly(optimizer, total_steps, steps_per_epoch, power=1.0, warmup_epochs=0)

    trainer = fit(
        tmp_path, small_task(scheduler=schedule), [seen], small_data(7, 1), epochs=2, accumulate_grad_batches=3
    )
    assert trainer.global_step == 6
    assert asked == {"total": 6, "epoch": 3}
    rates_seen = [seen.seen[epoch, batch][0] for epoch in range(2) for batch in range(7)]
    steps = [0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5]
    assert rates_seen == pytest.approx([0.01 * (1 - n / 6) for n in steps])
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0
