"""Modules in child processes: their environment, the paths on their command lines, the error in their log."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config.words import quoted
from src.machine import PARENT_VARIABLE, RUN_VARIABLE
from src.processes import children


@pytest.mark.parametrize("device", [None, "GPU-1a"])
def test_a_child_knows_its_parent_and_its_gpu_but_not_the_run_folder(
    device: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}

    real = subprocess.Popen

    def start(line: list[str], env: dict[str, str], **_: object) -> subprocess.Popen:
        found.update(env)
        assert line == [sys.executable, "-m", "src.train", "seed=1"]
        return real([sys.executable, "-S", "-c", "raise SystemExit(3)"])

    monkeypatch.setenv(RUN_VARIABLE, "runs/parent")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(children.subprocess, "Popen", start)
    assert children.run_module(["src.train", "seed=1"], tmp_path / "log", device) == 3
    assert RUN_VARIABLE not in found, "it would train in the folder of its parent"
    assert found["CUDA_VISIBLE_DEVICES"] == (device or "0,1")
    assert found[PARENT_VARIABLE].isdigit()


def test_the_error_of_the_last_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("$ python -m src.train a=1\nerror: too small\n$ python -m src.train a=2\nepoch 1\n")
    assert children.last_error(log) is None
    with log.open("a") as file:
        file.write("an error: no\nerror: too large\nTraceback\n")
    assert children.last_error(log) == "too large"


@pytest.mark.parametrize(
    "name", ["plain", "two words", "it's", "a=b,c", "[x]{y}", "back\\slash", "ends\\", "\\'", "(1)#"]
)
def test_a_path_survives_hydras_grammar(name: str) -> None:
    word = f"runs={quoted(Path('/a') / name)}"
    assert OverridesParser.create().parse_override(word).value() == f"/a/{name}"


def test_the_end_of_a_child_is_described_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, text in ((-9, "was killed by SIGKILL, perhaps for memory"), (3, "ended with status 3")):
        monkeypatch.setattr(children, "run_module", lambda *_, status=status: status)
        (tmp_path / "log").touch()
        assert children.failure(["src.train"], tmp_path / "log") == f"src.train {text}"


def test_children_of_threads_end_if_the_main_thread_is_stopped(tmp_path: Path) -> None:
    """As in crossval: a thread starts one child after the other, and must not go on with the next one."""
    statuses = []

    def work() -> None:
        statuses.extend(children.run(["timeit", "-n1", "-r1", "import time; time.sleep(30)"], {}) for _ in range(2))

    def stop() -> None:
        with children.ended_together():
            thread.start()
            while not children._running:
                time.sleep(0.01)
            raise SystemExit(143)

    thread = threading.Thread(target=work)
    with pytest.raises(SystemExit):
        stop()
    thread.join(5)
    assert statuses == [-signal.SIGTERM] * 2
