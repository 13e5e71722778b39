"""`trainer.precision=auto`: the choice by the times, what it leaves untouched, and that a run keeps it."""

import itertools
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from src.config.checks import check_trainer
from src.config.precision import settle_precision
from src.config.saved import config_text, read_config
from src.errors import UserError
from src.training import precision
from src.training.precision import choose_precision
from tests.support.compose import composed
from tests.support.small import small_task


@pytest.mark.parametrize(("slower", "expected"), [(1.19, "32-true"), (1.21, "bf16-mixed"), (0.6, "32-true")])
def test_bfloat16_must_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, slower: float, expected: str) -> None:
    """The clock gives each 32-bit step `slower` seconds and each step with bfloat16 one second."""
    steps = itertools.chain.from_iterable(((0.0, slower), (0.0, 1.0)) for _ in range(precision.REPEATS + 1))
    clock = itertools.chain.from_iterable(steps)
    monkeypatch.setattr(precision, "perf_counter", lambda: next(clock))
    found, ratio = choose_precision(small_task(), [32, 32], 2)
    assert found == expected
    assert ratio == pytest.approx(slower)


def test_weights_statistics_and_random_states_stay() -> None:
    task = small_task()
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    choose_precision(task, [32, 32], 2)
    assert torch.equal(torch.rand(4), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.state_dict().items())
    assert all(parameter.grad is None for parameter in task.parameters())


def test_a_run_measures_once_and_keeps_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(precision, "choose_precision", lambda *given: calls.append(given) or ("bf16-mixed", 1.5))
    with composed("train", "trainer=cpu", f"run_dir={tmp_path}", "data.crop_size=[32,48]", "data.batch_size=2") as cfg:
        cfg.data.classes = {"a": [0, 0, 0], "b": [1, 1, 1]}
        content = OmegaConf.to_container(cfg, resolve=True)
    path = tmp_path / "config.yaml"
    path.write_text(config_text(OmegaConf.create(content)))
    for _ in range(2):  # the second time as a run that continues: the command line says auto again
        cfg = OmegaConf.create(content)
        settle_precision(cfg, small_task())
        assert cfg.trainer.precision == "bf16-mixed"
        assert read_config(path).trainer.precision == "bf16-mixed"
    assert len(calls) == 1
    assert list(calls[0][1:]) == [[32, 48], 2]


def test_auto_is_only_for_a_cpu() -> None:
    with composed("train", "trainer=cpu") as cfg:
        assert cfg.trainer.precision == "auto"
        check_trainer(cfg.trainer)
        cfg.trainer.accelerator = "auto"
        with pytest.raises(
            UserError, match=r"trainer.precision=auto: is measured on a CPU, and trainer.accelerator is a"
        ):
            check_trainer(cfg.trainer)
