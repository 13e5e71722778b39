"""Modules of ours in processes of their own, as commands with a log."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from src.machine import RUN_VARIABLE
from src.processes.orphans import child_environment


def start(command: Sequence[str], path: Path, device: str | None) -> int:
    """Runs a module of ours in a process that ends with this one, its output added to a log; returns its status."""
    env = {name: value for name, value in child_environment().items() if name != RUN_VARIABLE}
    if device is not None:
        env["CUDA_VISIBLE_DEVICES"] = device
    with path.open("a") as file:
        print(f"$ python -m {' '.join(command)}", file=file, flush=True)
        line = [sys.executable, "-m", *command]
        return subprocess.run(line, stdout=file, stderr=subprocess.STDOUT, env=env, check=False).returncode


def last_error(path: Path) -> str | None:
    """What the last command of a log told of its error, if it did so in a line."""
    told = path.read_text(errors="replace").rpartition("$ python -m ")[2]
    found = re.findall(r"^error: (.*)$", told, re.MULTILINE)
    return found[-1] if found else None
