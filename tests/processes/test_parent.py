"""A process whose parent is gone ends: folds and stages fold up, whoever of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.config.cli import launch
from src.machine import PARENT_VARIABLE
from src.processes import orphans as parent
from src.runs.folder import RunFolder
from tests.support.paths import ROOT, TINY
from tests.support.processes import is_free, sessions, started, wait_until

# Each process of a chain tells itself and what it reads of its parent, then starts the next one.
CHAIN = """
import os, subprocess, sys, time
from src.machine import PARENT_VARIABLE
from src.processes.orphans import child_environment, end_with_parent
end_with_parent()
print(os.environ.get(PARENT_VARIABLE), flush=True)
if (left := int(sys.argv[1])):
    subprocess.run([sys.executable, "-c", sys.argv[2], str(left - 1), sys.argv[2]], env=child_environment())
time.sleep(20)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_chain_folds_up(how: signal.Signals) -> None:
    """The pipe ends when the last that could write to it has ended."""
    command = [sys.executable, "-c", CHAIN, "2", CHAIN]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(3)] == ["None\n"] * 3
        began = time.monotonic()
        process.send_signal(how)
        assert process.stdout.read() == ""
        assert time.monotonic() - began < 10


def test_a_child_of_a_parent_that_waits_lives_and_knows_it() -> None:
    script = "import time; from src.processes.orphans import end_with_parent as e; e(); time.sleep(2.5); print('lived')"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=parent.child_environment(), capture_output=True, check=True
    )
    assert told.stdout == b"lived\n"


def test_one_whose_parent_died_before_it_looked_ends() -> None:
    script = "from src.processes.orphans import end_with_parent; import time; end_with_parent(); time.sleep(20)"
    dead = {**os.environ, PARENT_VARIABLE: "-1"}
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=dead, check=False).returncode == -signal.SIGTERM


def test_what_ignores_sigterm_is_killed() -> None:
    script = (
        "from src.processes import orphans as parent; import signal, time; parent.GRACE = 0.5\n"
        "signal.signal(signal.SIGTERM, lambda *_: 0)\n"
        "parent.end_with_parent(); time.sleep(20)"
    )
    dead = {**os.environ, PARENT_VARIABLE: "-1"}
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=dead, check=False).returncode == -signal.SIGKILL


def test_a_training_that_sigterm_ended_does_not_look_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's exception for it has no status, by which the fold would be evaluated and told as done."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    def stopped(cfg: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr(sys, "argv", ["src.train"])
    with pytest.raises(SystemExit) as stop:
        launch(stopped, "train")
    assert stop.value.code == 143


@pytest.mark.slow
def test_the_same_command_goes_on_when_only_the_parent_died(tmp_path: Path) -> None:
    """Stages by SIGKILL, then cross-validation by SIGTERM: no fold trains on, nor its data workers hold the folder."""
    words = [word for word in TINY if "max_epochs" not in word and "num_workers" not in word]
    words += ["stages=two", "stages.first.epochs=1000", "data.num_workers=2", "data.num_folds=2", "data.fold_gap=0"]
    run = RunFolder(tmp_path / "x" / "1_first" / "fold0")
    for number, how in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        with started("src.stages", *words, f"runs={tmp_path}", "name=x") as process:
            wait_until(lambda number=number: len(sessions(run)) == number, 120)
            wait_until(run.last.is_file, 120)
            assert not is_free(run)
            process.send_signal(how)
            process.wait()
            assert wait_until(lambda: is_free(run), 15) < 10
            wait_until(lambda: is_free(RunFolder(run.path.parent)), 1)
    assert [session["continues_checkpoint"] for session in sessions(run)] == [False, True]
    assert not run.read_results()["finished"]
