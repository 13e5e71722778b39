"""The words of a sweep in the tags of its runs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from src.config.dashboards import tags
from src.config.sweep import swept_words
from src.runs.sweep import Plan, write_plan
from tests.support.compose import composed


def test_a_run_is_tagged_with_what_its_sweep_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["model=fcn", "optimizer.lr=0.1", "+seed=3", "data.batch_size=2", f"name={'x' * 70}"]
    write_plan(tmp_path, Plan(["model", "optimizer.lr", "seed", "name"], 4))
    with composed("train", "model=fcn") as cfg:
        cfg.choices = {"data": "streets", "model": "fcn", "backbone": "tiny"}
        hydra = SimpleNamespace(
            mode=RunMode.MULTIRUN, sweep=SimpleNamespace(dir=str(tmp_path)), overrides=SimpleNamespace(task=words)
        )
        monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
        assert tags(cfg) == ("streets", "fcn", "tiny", "optimizer.lr=0.1", "+seed=3")
        hydra.mode = RunMode.RUN
        assert swept_words() == []
