"""The learning rate range test: its rates, its end, its suggestion, its plot; it leaves no run behind."""

import csv
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest

from src.callbacks.range_test import RangeTest
from src.metrics.figures import figures
from src.training.lr_range import Point, check_range, plot_range, smooth, suggest
from src.training.schedules import constant
from tests.support.paths import TINY
from tests.support.small import Rates, sgd, small_data, small_task, small_trainer


def test_rates_rise_exponentially_and_keep_the_groups_proportions(tmp_path: Path) -> None:
    """Two batches a step: the rate holds for both, and the step's point is of both."""
    seen, test, losses = Rates(), RangeTest(1e-4, 1e-1, 7), []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
            losses.append(float(trainer.callback_metrics["train/loss"]))

    task = small_task(partial(sgd, backbone_lr_scale=0.1))
    trainer = small_trainer(
        tmp_path, [test, seen, Losses()], epochs=7, max_steps=7, accumulate_grad_batches=2, limit_val_batches=0
    )
    trainer.fit(task, small_data(8, 2))
    expected = [1e-4 * 10 ** (step / 2) for step in range(7)]
    assert [point.lr for point in test.points] == pytest.approx(expected)
    rates = list(seen.seen.values())
    names = [group["name"] for group in trainer.optimizers[0].param_groups]
    for step, lr in enumerate(expected):
        for rate in (rates[2 * step], rates[2 * step + 1]):
            assert dict(zip(names, rate, strict=True)) == pytest.approx(
                {name: lr * (0.1 if name.startswith("backbone") else 1) for name in names}
            )
        assert test.points[step].loss == pytest.approx(sum(losses[2 * step : 2 * step + 2]) / 2)
        assert 0 <= test.points[step].miou <= 1


def test_miou_is_of_the_batch_under_the_weights_before_the_step(tmp_path: Path) -> None:
    import torch

    from src.inference import predict_scores
    from tests.support.small import Small

    build = partial(small_task, architecture=partial(Small, batchnorm=False, dropout=0))
    test, task, data = RangeTest(1e-9, 1e-8, 3), build(), small_data(6, 2)
    small_trainer(tmp_path, [test], epochs=1, limit_val_batches=0).fit(task, data)
    still = build()
    for point, batch in zip(test.points, small_data(6, 2).train_dataloader(), strict=True):
        ids = predict_scores(still.network, batch["image"], still.protocol).argmax(1)
        matrix = torch.zeros(11, 11, dtype=torch.int64)
        for truth, guess in zip(batch["mask"].flatten().tolist(), ids.flatten().tolist(), strict=True):
            if truth != 255:
                matrix[truth, guess] += 1
        assert point.miou == pytest.approx(figures(matrix).miou, abs=1e-3)


def test_it_ends_where_the_loss_diverges(tmp_path: Path) -> None:
    test, task = RangeTest(1e-3, 1e9, 60), small_task(sgd)
    task.build_scheduler = partial(constant, warmup_epochs=0)
    small_trainer(tmp_path, [test], epochs=60, max_steps=60, limit_val_batches=0).fit(task, small_data())
    losses = [point.loss for point in test.points]
    assert 11 <= len(losses) < 60
    assert not math.isfinite(losses[-1]) or losses[-1] > 2 * min(losses)


def test_a_loss_that_is_not_finite_ends_it_too(tmp_path: Path) -> None:
    """In the last batch of an epoch, at which a training would stop with an error."""
    test, task, calls = RangeTest(1e-4, 1e-3, 60), small_task(sgd), []

    def spoil(module: object, inputs: tuple, losses: dict) -> dict:
        calls.append(1)
        return losses | {"loss": losses["loss"] * (math.nan if len(calls) == 15 else 1)}

    task.loss.register_forward_hook(spoil)
    small_trainer(tmp_path, [test], epochs=60, max_steps=60, limit_val_batches=0).fit(task, small_data())
    assert len(test.points) == 15
    assert math.isnan(test.points[-1].loss)


def parabola(lowest: float, steps: int = 300, noise: float = 0.0) -> list[Point]:
    rng = np.random.default_rng(0)
    rates = 1e-6 * 10 ** (7 * np.arange(steps) / (steps - 1))
    losses = 1 + (np.log10(rates) - np.log10(lowest)) ** 2 / 10 + noise * rng.standard_normal(steps)
    return [Point(float(lr), float(loss), 0.5) for lr, loss in zip(rates, losses, strict=True)]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_suggestion_is_a_tenth_of_the_lowest(noise: float) -> None:
    found = suggest(parabola(1e-2, noise=noise))
    assert math.log10(found.lr) == pytest.approx(-3, abs=0.25 if noise else 0.02)
    assert found.lr == pytest.approx(found.lowest / 10)
    assert found.has_turned
    assert f"optimizer.lr={found.lr:.1e}, a tenth of {found.lowest:.1e}" in str(found)


def test_a_loss_that_only_falls_is_noted() -> None:
    found = suggest(parabola(1e4))
    assert not found.has_turned
    assert "the loss never rose again; raise lr_range.highest" in str(found)


def test_divergence_to_nan_is_a_turn() -> None:
    points = parabola(1e4)[:200]
    assert suggest([*points, Point(0.1, math.nan, math.nan)]).has_turned


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (parabola(1e-9), r"the loss does not fall from a learning rate of 1e-06 on; lower lr_range.lowest"),
        ([Point(1e-6, math.inf, 0.0)] * 30, r"the loss was finite for only 0 steps; lower lr_range.lowest=1e-06"),
    ],
)
def test_no_suggestion_without_a_fall(points: list[Point], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suggest(points)


def test_smoothing_does_not_lag_and_leaves_nan_out() -> None:
    values = [abs(i - 100) / 10 for i in range(201)]
    assert int(np.argmin(smooth(values))) == 100
    straight = [float(i) for i in range(100)]
    np.testing.assert_allclose(smooth(straight)[20:80], straight[20:80])
    straight[50] = math.nan
    np.testing.assert_allclose(smooth(straight)[20:40], range(20, 40))
    assert np.isfinite(smooth(straight)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((1e-6, 10.0, 5), r"lr_range\.steps=5: must be a whole number, at least 20"),
        ((1e-6, 10.0, True), r"lr_range\.steps=True: must be a whole number, at least 20"),
        ((20, 10.0, 300), r"lr_range\.lowest=20, lr_range\.highest=10\.0: must be 0 < lowest < highest"),
        ((0, 10.0, 300), r"lr_range\.lowest=0, lr_range\.highest=10\.0: must be 0 < lowest < highest"),
    ],
)
def test_ranges_that_cannot_be_tested(options: tuple[float, float, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_range(*options)


def test_the_command_checks_its_range_before_the_data(fails) -> None:
    message = fails("find_lr", "data=camvid", "data.root=nowhere", "lr_range.steps=5")
    assert message == "lr_range.steps=5: must be a whole number, at least 20"


@pytest.mark.draws
def test_the_plot_is_a_png(tmp_path: Path) -> None:
    points = parabola(1e-2, steps=60)
    plot_range(points, suggest(points), tmp_path / "range.png", "a test")
    assert (tmp_path / "range.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.e2e
def test_by_the_command_line(cli, tmp_path: Path) -> None:
    """Leaves a table, a plot, a suggestion; the training that follows is named by the same configuration."""
    arguments = [word for word in TINY if not word.startswith("trainer.max_epochs")] + ["trainer.max_epochs=1"]
    test = ("lr_range.steps=40", "lr_range.highest=100", "freeze.backbone_epochs=1")
    suggestion = cli("find_lr", *arguments, *test, f"runs={tmp_path}", "averaging=ema", "scheduler=one_cycle")
    (folder,) = (tmp_path / "lr_range").iterdir()
    assert [path.name for path in tmp_path.iterdir()] == ["lr_range"]
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["lr_range.csv", "lr_range.png"]
    with (folder / "lr_range.csv").open() as file:
        points = [Point(*map(float, row.values())) for row in csv.DictReader(file)]
    assert points[0].lr == 1e-6
    assert 10 < len(points) <= 40
    assert suggest(points).lr == pytest.approx(suggestion)
    cli("train", *arguments, f"runs={tmp_path}", "averaging=ema", "scheduler=one_cycle", "freeze.backbone_epochs=1")
    (run,) = (path for path in tmp_path.iterdir() if path.name != "lr_range")
    assert run.name == folder.name, "the folder of the test is that of its run, but in lr_range"
    assert (run / "results.json").is_file()
