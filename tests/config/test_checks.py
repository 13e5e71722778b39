"""The ranges of a configuration's values, checked on a composed configuration."""

import re
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.config.checks import check_given, check_one_device, check_ranges, has_several_devices
from src.errors import UserError, whole
from tests.support.paths import CONF


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train")


@pytest.fixture
def cfg(composed: DictConfig) -> DictConfig:
    return composed.copy()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "seed=-1: must be a whole number, at least 0"),
        ("seed", True, "seed=True: must be a whole number, at least 0"),
        ("data.batch_size", 0, "data.batch_size=0: must be a whole number, at least 1"),
        ("data.eval_batch_size", None, "data.eval_batch_size=None: must be a whole number, at least 1"),
        ("trainer.max_epochs", 1.5, "trainer.max_epochs=1.5: must be a whole number, at least 1"),
        ("freeze.backbone_epochs", -1, "freeze.backbone_epochs=-1: must be a whole number, at least 0"),
        ("freeze.batchnorm_epochs", "all", "freeze.batchnorm_epochs=all: must be a whole number, at least 0"),
        ("data.num_workers", "many", "data.num_workers=many: must be auto or a whole number, at least 0"),
        ("data.num_workers", True, "data.num_workers=True: must be auto or a whole number, at least 0"),
        ("data.class_uniform", 1.5, "data.class_uniform=1.5: must be 0 to 1"),
        ("data.class_uniform", True, "data.class_uniform=True: must be 0 to 1"),
        ("data.crop_size", 64, "data.crop_size=64: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.size", [64, 0], "inference.size=[64, 0]: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.short_side", 0, "inference.short_side=0: must be null or a whole number, at least 1"),
        ("inference.window", [64], "inference.window=[64]: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.overlap", 1, "inference.overlap=1: must be at least 0 and below 1"),
        ("inference.scales", [], "inference.scales=[]: must be one or more factors above 0"),
        ("inference.scales", [1.0, 0], "inference.scales=[1.0, 0]: must be one or more factors above 0"),
        ("trainer.sync_batchnorm", "maybe", "trainer.sync_batchnorm=maybe: must be auto, true or false"),
    ],
)
def test_values_out_of_range(cfg: DictConfig, key: str, value: Any, message: str) -> None:
    check_ranges(cfg)
    OmegaConf.update(cfg, key, value)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_ranges(cfg)


def test_a_mandatory_value_that_is_missing(cfg: DictConfig) -> None:
    check_given(cfg)
    cfg.data.crop_size = "???"
    with pytest.raises(UserError, match=r"^data\.crop_size is not set; give data\.crop_size=\.\.\. on the command"):
        check_given(cfg)


@pytest.mark.parametrize(
    ("devices", "expected"), [(1, False), ("1", False), ([0], False), (2, True), ("auto", True), ([0, 1], True)]
)
def test_several_devices(cfg: DictConfig, devices: Any, expected: bool) -> None:
    cfg.trainer.devices = devices
    assert has_several_devices(cfg) is expected


def test_a_range_test_runs_on_one_device(cfg: DictConfig) -> None:
    check_one_device(cfg)
    cfg.trainer.devices = 2
    with pytest.raises(UserError, match=r"runs on one device, and trainer\.devices=2; set trainer\.devices=1"):
        check_one_device(cfg)


@pytest.mark.parametrize("value", [True, False, 1.0, "2", None, 0])
def test_whole_numbers(value: Any) -> None:
    assert whole("key", 1, 1) == 1
    with pytest.raises(UserError, match=rf"^key={value}: must be auto or a whole number, at least 1$"):
        whole("key", value, 1, also="auto")
