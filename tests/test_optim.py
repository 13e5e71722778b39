"""Parameter groups, and schedules against closed forms."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from src.models.network import Network
from src.optim import build_optimizer, constant, cosine, poly


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


def optimizer(**options: float) -> torch.optim.Optimizer:
    network = Network(Tiny(), [0.5] * 3, [0.5] * 3)
    return build_optimizer(network, partial(torch.optim.SGD, momentum=0.9), lr=0.1, weight_decay=0.01, **options)


def test_groups_have_their_rates_and_decays() -> None:
    groups = {g["name"]: g for g in optimizer(backbone_lr_scale=0.1, head_lr_scale=10).param_groups}
    assert set(groups) == {"backbone", "backbone/no_decay", "head", "head/no_decay"}
    assert {name: g["lr"] for name, g in groups.items()} == pytest.approx(
        {"backbone": 0.01, "backbone/no_decay": 0.01, "head": 1.0, "head/no_decay": 1.0}
    )
    assert {name: g["weight_decay"] for name, g in groups.items()} == {
        "backbone": 0.01,
        "backbone/no_decay": 0.0,
        "head": 0.01,
        "head/no_decay": 0.0,
    }
    assert [p.ndim for g in groups.values() if g["weight_decay"] for p in g["params"]] == [4, 4]
    assert sum(len(g["params"]) for g in groups.values()) == 6


def test_everything_decays_where_asked() -> None:
    assert {g["name"] for g in optimizer(decay_norm_and_bias=True).param_groups} == {"backbone", "head"}


def test_backbone_rate_without_backbone_is_refused() -> None:
    network = Network(nn.Sequential(nn.Conv2d(3, 2, 1)), [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match=r"backbone_lr_scale=0.1: this network has no backbone"):
        build_optimizer(network, torch.optim.SGD, lr=0.1, weight_decay=0, backbone_lr_scale=0.1)


def rates(schedule: partial, steps: int = 100) -> list[float]:
    opt = optimizer()
    scheduler = schedule(opt, total_steps=steps, steps_per_epoch=10)
    result = []
    for _ in range(steps):
        result.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    return [*result, opt.param_groups[0]["lr"]]


def test_poly() -> None:
    lr = rates(partial(poly, power=0.9, warmup_epochs=0))
    assert lr[0] == 0.1
    assert lr[50] == pytest.approx(0.1 * 0.5**0.9)
    assert lr[99] == pytest.approx(0.1 * 0.01**0.9)
    assert lr[100] == 0


def test_cosine_with_warm_up_and_floor() -> None:
    lr = rates(partial(cosine, warmup_epochs=2, floor=0.05))
    assert lr[0] == pytest.approx(0.1 / 20)
    assert lr[19] == pytest.approx(0.1)
    assert lr[20] == pytest.approx(0.1)
    assert lr[60] == pytest.approx(0.1 * (0.05 + 0.95 / 2))
    assert lr[99] == pytest.approx(0.1 * (0.05 + 0.95 * (1 + math.cos(math.pi * 79 / 80)) / 2))
    assert lr[100] == pytest.approx(0.005)


def test_constant() -> None:
    assert rates(partial(constant, warmup_epochs=1))[:12] == pytest.approx([0.01 * i for i in range(1, 11)] + [0.1] * 2)


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup_epochs=10: 100 steps of the run's 100"):
        rates(partial(cosine, warmup_epochs=10, floor=0.0))
