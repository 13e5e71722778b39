"""A process ends if its parent dies, at every level of stages, cross-validation and training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.config.cli import launch
from src.machine import PARENT_VARIABLE
from src.processes import orphans
from src.runs.folder import RunFolder
from tests.support.paths import ROOT, TINY
from tests.support.processes import is_free, sessions, started, wait_until

# Each process of a chain prints the variable of its parent, which must be gone, then starts the next one.
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
def test_a_chain_of_processes_ends_with_its_first(how: signal.Signals) -> None:
    """The pipe ends when the last that could write to it has ended."""
    command = [sys.executable, "-c", CHAIN, "2", CHAIN]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(3)] == ["None\n"] * 3
        began = time.monotonic()
        process.send_signal(how)
        assert process.stdout.read() == ""
        assert time.monotonic() - began < 10


def test_the_child_of_a_living_parent_lives() -> None:
    script = (
        "from src.processes import orphans; import time; orphans.POLL = 0.1\n"
        "orphans.end_with_parent(); time.sleep(0.5); print('lived')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=orphans.child_environment(), capture_output=True, check=True
    )
    assert result.stdout == b"lived\n"


def test_a_process_ends_if_its_parent_died_before_it_looked() -> None:
    script = "from src.processes.orphans import end_with_parent; import time; end_with_parent(); time.sleep(20)"
    dead = {**os.environ, PARENT_VARIABLE: "-1"}
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=dead, check=False).returncode == -signal.SIGKILL


def test_without_help_of_the_kernel_a_thread_looks_at_the_parent() -> None:
    script = (
        "from src.processes import orphans; import time; orphans.die_with = lambda parent: False\n"
        "orphans.end_with_parent(); time.sleep(20)"
    )
    dead = {**os.environ, PARENT_VARIABLE: "-1"}
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=dead, check=False).returncode == -signal.SIGKILL


def test_a_stopped_process_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", CHAIN, "1", CHAIN]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["None\n"] * 2
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(child, signal.SIGSTOP)
        process.kill()
        assert process.stdout.read() == ""
        wait_until(lambda: not Path(f"/proc/{child}/cwd").exists(), 2)


def test_a_training_ended_by_sigterm_has_a_failing_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's exception for it has no status: the fold would be evaluated and reported as done."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    def stopped(cfg: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr(sys, "argv", ["src.train"])
    with pytest.raises(SystemExit) as stop:
        launch(stopped, "train")
    assert stop.value.code == 143


@pytest.mark.slow
def test_the_same_command_continues_after_only_the_parent_died(tmp_path: Path) -> None:
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
    assert not run.read_results().finished
