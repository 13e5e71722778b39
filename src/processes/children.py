"""Runs modules of this project in child processes, each with a log file."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from src.machine import RUN_VARIABLE
from src.processes.orphans import child_environment

PROMPT = "$ python -m "  # stands before each command in a log


def run_module(command: Sequence[str], log: Path, device: str | None = None) -> int:
    """Runs a module in a child process, which ends if this process does; returns its status, negative for a signal.

    Args:
        command: name of the module and its arguments.
        log: file that the command line and all output are added to.
        device: value of CUDA_VISIBLE_DEVICES for the child; None leaves it as it is here.
    """
    env = {name: value for name, value in child_environment().items() if name != RUN_VARIABLE}
    if device is not None:
        env["CUDA_VISIBLE_DEVICES"] = device
    with log.open("a") as file:
        print(f"{PROMPT}{' '.join(command)}", file=file, flush=True)
        line = [sys.executable, "-m", *command]
        return subprocess.run(line, stdout=file, stderr=subprocess.STDOUT, env=env, check=False).returncode


def last_error(log: Path) -> str | None:
    """Returns the one-line error of the last command in a log; None if the command printed none."""
    output = log.read_text(errors="replace").rpartition(PROMPT)[2]
    found = re.findall(r"^error: (.*)$", output, re.MULTILINE)
    return found[-1] if found else None


def failure(command: Sequence[str], log: Path, device: str | None = None) -> str | None:
    """Runs a module as `run_module` does; returns the reason if it fails, else None."""
    status = run_module(command, log, device)
    return None if status == 0 else last_error(log) or f"{command[0]} ended with status {status}"
