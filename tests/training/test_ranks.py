"""The ranks of a training: what each sees, and the words for one that is lost."""

import logging
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from src.errors import UserError
from src.runs.folder import RunFolder
from src.training.ranks import (
    Ranks,
    Strategy,
    View,
    compare,
    describe_failed,
    digest_last,
    naming_lost_ranks,
    register,
    stopped_ranks,
)
from tests.support.paths import ROOT, TINY
from tests.support.processes import wait_until
from tests.support.small import checkpoint, fit, small_task

FIRST = View(0, "a", {"train": "1"}, "c", "l")
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def test_ranks_that_see_the_same_may_train() -> None:
    compare([FIRST, replace(FIRST, rank=1, host="b")], RunFolder(Path("runs/x")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"last": None},
            "runs/x/checkpoints/last.ckpt: rank 2 (on b) and rank 0 (on a) do not both see this file; all",
        ),
        (
            {"last": "m"},
            "runs/x/checkpoints/last.ckpt: rank 2 (on b) and rank 0 (on a) see different files of this name",
        ),
        (
            {"config": None},
            "runs/x/config.yaml: rank 2 (on b) and rank 0 (on a) do not both see this file; all nodes must",
        ),
        ({"data": {"train": "2"}}, "data.root: rank 2 (on b) and rank 0 (on a) see different data; give all nodes"),
    ],
)
def test_a_rank_that_sees_other_files_is_named(change: dict, message: str) -> None:
    views = [FIRST, replace(FIRST, rank=1), replace(FIRST, rank=2, host="b", **change)]
    with pytest.raises(UserError, match=re.escape(message)):
        compare(views, RunFolder(Path("runs/x")))


def test_a_run_continues_only_on_as_many_devices(tmp_path: Path) -> None:
    """As `trainer.devices=auto` may not be, on another machine."""
    run = RunFolder(tmp_path / "run")

    def train(epochs: int) -> None:
        fit(run.path / "checkpoints", small_task(), [Ranks(run, None, {})], epochs=epochs)

    train(1)
    content = checkpoint(run.path / "checkpoints")
    assert content["callbacks"]["Ranks"] == {"num_ranks": 1}
    content["callbacks"]["Ranks"] = {"num_ranks": 2}
    torch.save(content, run.last)
    with pytest.raises(UserError, match=r"last.ckpt: was trained on 2 devices in all, and now there are 1: the total"):
        train(2)
    del content["callbacks"]["Ranks"]  # of an earlier version
    torch.save(content, run.last)
    train(2)


def test_checkpoints_differ_by_their_ends(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert digest_last(run) is None
    run.last.parent.mkdir()
    digests = set()
    for content in (b"a" * 500, b"a" * 499 + b"b", b"a" * 501):
        run.last.write_bytes(content)
        digests.add(digest_last(run))
    assert len(digests) == 3


def test_a_failed_rank_is_described_in_words() -> None:
    codes = ("pass", "import os; os.kill(os.getpid(), 9)")
    good, bad = (subprocess.Popen([sys.executable, "-S", "-c", code]) for code in codes)
    good.wait()
    bad.wait()
    assert describe_failed([good]) is None
    assert describe_failed([good, bad]) == (
        f"rank 2 (pid {bad.pid}) was killed by SIGKILL, perhaps for memory; the same command continues the run"
    )


def test_a_stopped_rank_is_found() -> None:
    rank = subprocess.Popen(["sleep", "30"], env={"LOCAL_RANK": "3", "PATH": "/usr/bin:/bin"})
    assert stopped_ranks(0) == {}
    rank.send_signal(signal.SIGSTOP)
    wait_until(lambda: stopped_ranks(0) == {3: rank.pid}, 2)
    assert stopped_ranks(3) == {}, "it is this rank"
    rank.kill()
    rank.wait()


@pytest.mark.parametrize(
    ("error", "world_size", "is_lost"),
    [
        (RuntimeError("[gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:1"), 2, True),
        (RuntimeError("Timed out waiting 5000ms for recv operation to complete"), 2, True),
        (torch.distributed.DistStoreError("no answer"), 2, True),
        (RuntimeError("shape '[3]' is invalid"), 2, False),
        (RuntimeError("Connection closed by peer"), 1, False),
    ],
)
def test_only_the_error_of_a_lost_rank_is_taken_for_one(error: RuntimeError, world_size: int, is_lost: bool) -> None:
    trainer: Any = SimpleNamespace(world_size=world_size, global_rank=1, strategy=SimpleNamespace(launcher=None))
    message = r"^rank 1 \(on .*\) lost another rank, which ended or gave no answer within 300 seconds from the start"
    expected = (UserError, message) if is_lost else (RuntimeError, re.escape(str(error)))
    with pytest.raises(expected[0], match=expected[1]) as caught, naming_lost_ranks(trainer, 7):
        raise error
    assert (caught.value is error) is not is_lost


def test_lightnings_names_give_the_strategy_that_watches() -> None:
    register(7)
    for name in ("ddp", "ddp_find_unused_parameters_true"):
        strategy = StrategyRegistry.get(name)
        assert isinstance(strategy, Strategy)
        assert strategy.patience == 7


@pytest.mark.parametrize(("seconds", "notes"), [(0.5, ["waits up to 300 s for all 1 ranks to start"]), (0, [])])
def test_a_rank_that_waits_for_others_says_so(
    seconds: float, notes: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("src.training.ranks.SLOW", 0.1)
    monkeypatch.setattr(DDPStrategy, "setup_distributed", lambda self: time.sleep(seconds))
    limits: list[timedelta] = []
    monkeypatch.setattr(torch.distributed.distributed_c10d, "set_timeout", limits.append, raising=False)
    with caplog.at_level(logging.INFO):
        Strategy(7).setup_distributed()
        time.sleep(0.2)
    assert caplog.messages == notes
    assert limits == [timedelta(seconds=7)]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (signal.SIGKILL, "was killed by SIGKILL, perhaps for memory"),
        (signal.SIGSTOP, "is stopped, and the others waited"),
    ],
)
def test_a_lost_rank_ends_the_others_with_its_name(sent: signal.Signals, words: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "src.train", *(word for word in TINY[1:] if "max_epochs" not in word), *TWO,
        "trainer.max_epochs=10000", "callbacks.panels=null", "rank_timeout=5", f"runs={tmp_path}", "name=x",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            wait_until(RunFolder(tmp_path / "x").last.is_file, 600)
            (rank,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            subprocess.run(["kill", f"-{sent}", rank], check=True)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # it would train for hours if this test fails
    assert process.returncode == 1
    assert re.search(rf"^error: rank 1 \(pid {rank}\) {words}", errors, re.MULTILINE), errors
    wait_until(lambda: not Path(f"/proc/{rank}/cwd").exists(), 2)
