"""The words of a sweep in the tags of its runs, and jobs that outlive the command that started them."""

import gc
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf
from torch import nn

from src import files
from src.config.dashboards import tags
from src.config.sweep import SweepSummary, swept_words
from src.errors import UserError
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


def test_a_job_waits_for_one_of_an_earlier_start_and_leaves_its_memory_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "LOCK_POLL_S", 0.01)
    caplog.set_level("INFO")
    folder = tmp_path / "3"
    folder.mkdir()
    earlier = files.lock(folder / files.LOCK, "")
    threading.Timer(0.1, earlier.close).start()
    launcher = {"_target_": "elsewhere"}
    hydra = {"mode": RunMode.MULTIRUN, "sweep": {"dir": str(tmp_path)}, "launcher": launcher, "overrides": {"task": []}}
    config = OmegaConf.create({"hydra": {**hydra, "runtime": {"output_dir": str(folder)}}})
    SweepSummary().on_job_start(config)
    assert earlier.closed
    assert caplog.text.count("a job of an earlier start of this sweep still runs; waits for its end") == 1
    with pytest.raises(UserError, match="busy"):
        files.lock(folder / files.LOCK, "busy")
    network = nn.Module()
    network.trainer = [network]  # as a network and its trainer know each other
    freed, network = weakref.ref(network), None
    gc.disable()
    SweepSummary().on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    gc.enable()
    assert freed() is None
    files.lock(folder / files.LOCK, "busy").close()
