"""Two nodes, on one machine, by the lines of docs/training.md."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from src.runs.folder import RunFolder
from tests.support.paths import ROOT, TINY
from tests.support.processes import sessions, wait_until

pytestmark = pytest.mark.slow


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Nodes:
    """Starts the command of a node; all end with the block."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack, self.folder, self.port, self.count = stack, folder, free_port(), 0

    def start(self, runs: str, epochs: int = 40) -> subprocess.Popen:
        """Starts the next node; its output is in `N.log`. The first one leads: it is left to open its port."""
        text = (ROOT / "docs" / "training.md").read_text()
        (line,) = re.findall(r"^torchrun .*?(?=\n```)", text, re.MULTILINE | re.DOTALL)
        line = line.replace("\\\n", " ")
        for old, new in (("HOST:29500", f"127.0.0.1:{self.port}"), ("node=4", "node=1"), ("devices=4", "devices=1")):
            assert old in line
            line = line.replace(old, new)
        words = [word for word in TINY[1:] if "max_epochs" not in word]
        command = [str(Path(sys.executable).parent / "torchrun"), *shlex.split(line)[1:], *words]
        command += ["trainer.accelerator=cpu", f"trainer.max_epochs={epochs}", "callbacks.panels=null", "name=x"]
        log = self.stack.enter_context((self.folder / f"{self.count}.log").open("w"))
        self.count += 1
        ((name, value),) = re.findall(r"^export (\w+)=(\w+)$", text, re.MULTILINE)
        options = {"cwd": ROOT, "stdout": log, "stderr": log, "env": {**os.environ, name: value}}
        process = subprocess.Popen([*command, f"runs={self.folder}/{runs}"], **options)
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        wait_until(lambda: is_open(self.port), 120)
        return process

    def log(self, number: int) -> str:
        return (self.folder / f"{number}.log").read_text()


def test_a_node_that_was_killed_comes_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "x")
    with ExitStack() as stack:
        nodes = Nodes(stack, tmp_path)
        first, second = nodes.start("runs"), nodes.start("runs")
        wait_until(run.last.is_file, 600)
        second.send_signal(signal.SIGKILL)
        wait_until(lambda: "lost another rank" in nodes.log(0), 60)
        again = nodes.start("runs")
        assert (first.wait(600), again.wait(60)) == (0, 0), nodes.log(0)
    assert run.read_results().finished
    assert len(sessions(run)) == 2


def test_nodes_that_see_other_folders_of_runs_say_so(tmp_path: Path) -> None:
    """The first node continues a run that the second one does not see."""
    with ExitStack() as stack:
        nodes = Nodes(stack, tmp_path)
        pair = nodes.start("one"), nodes.start("one")
        wait_until(RunFolder(tmp_path / "one" / "x").last.is_file, 600)
        for process in pair:
            process.kill()
            process.wait()
        other = Nodes(stack, tmp_path)
        other.count = 2
        pair = other.start("one"), other.start("two")
        message = "do not both see this file; all nodes must share one folder of runs: give runs=FOLDER on a disk"
        wait_until(lambda: all(message in other.log(number) for number in (2, 3)), 120)
