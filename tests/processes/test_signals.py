"""SIGTERM and Ctrl-C end a process in time, whatever hangs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import wait_until

# A process with a stopped child, whose main thread then does `WORK`.
SCRIPT = """
import multiprocessing, os, signal, sys, time
from src.processes import signals
signals.GRACE = 1.0
with signals.ending_in_time():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    os.kill(child.pid, signal.SIGSTOP)
    print(child.pid, flush=True)
    WORK
"""
# Here the main thread never gets to its handler, as in a wait in C++ for another rank.
BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, {15, 2}); time.sleep(60)"


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("work", ["time.sleep(60)", BLOCKED])
def test_a_signal_ends_a_process_with_a_stopped_child(sent: signal.Signals, status: int, work: str) -> None:
    command = [sys.executable, "-c", SCRIPT.replace("WORK", work)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(sent)
        assert process.wait(20) == status
        assert time.monotonic() - began < 5
    wait_until(lambda: not Path(f"/proc/{child}/cwd").exists(), 2)
