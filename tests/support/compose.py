"""Configurations composed as a command line would, for tests that call a check or a plan instead of the command."""

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from tests.support.paths import CONF


@contextmanager
def composed(name: str, *words: str) -> Iterator[DictConfig]:
    """Composes `conf/<name>.yaml`; within the block, Hydra knows the choices and overrides of the command line."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(name, list(words), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        try:
            with open_dict(cfg):
                cfg.pop("hydra")
            yield cfg
        finally:
            HydraConfig.instance().cfg = None
