"""This machine and this process: its environment variables, cores, network, and place among the processes of a run."""

import ctypes
import os
import platform
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

# Every variable that this project's processes hand on to each other.
RUN_VARIABLE = "STREETSEG_RUN"  # set by rank 0 (src.config.open), read by Lightning's other ranks: the run folder
PARENT_VARIABLE = "STREETSEG_PARENT"  # set for a child, read by it (src.processes.orphans): the process to end with
SWEEP_VARIABLE = "STREETSEG_SWEEP"  # set by src.config.cli, read by conf/train.yaml: a digest of the sweep's command
SWEPT_VARIABLE = "STREETSEG_SWEPT"  # set for a job in a process of its own, read by it (src.config.sweep): its words
TRIAL_VARIABLE = "STREETSEG_TRIAL"  # set by src.config.search, read by src.config.build: the place of a trial
GROUP_VARIABLE = "WANDB_RUN_GROUP"  # W&B's own; set by the commands of several runs: their name in the dashboard
CACHE_VARIABLE = "STREETSEG_CACHE"  # set by the user, read by src.data.statistics: folder of class statistics

# That end a process of this project. SIGUSR1 is a scheduler's warning before its time is over.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SHARED_MEMORY = "/dev/shm"
# Lightning's default_root_dir: from a folder it would load any hpc_ckpt_*.ckpt in place of the weights given.
NO_FOLDER = os.devnull
PR_SET_PDEATHSIG = 1  # of prctl(2)
REASONS = {"SIGKILL": ", perhaps for memory", "SIGBUS": f", perhaps because {SHARED_MEMORY} is full (--shm-size)"}


@contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """Sets an environment variable (None: unsets it) for the duration of a block."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def reachable(url: str, timeout: float = 3.0) -> bool:
    """Returns whether a connection to the URL's host opens within `timeout` seconds, or a proxy stands between.

    A node without internet must find out in seconds, not in minutes of some client's retries.
    """
    parts = urlparse(url)
    if os.environ.get(f"{parts.scheme}_proxy") or os.environ.get(f"{parts.scheme.upper()}_PROXY"):
        return True
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout):
            return True
    except OSError:
        return False


def spare_hub_retries() -> None:
    """Restricts the client of the Hugging Face hub to its cache if the hub cannot be reached.

    The client would otherwise retry for half a minute before it says so. Call this before it is imported.
    """
    if not reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        os.environ["HF_HUB_OFFLINE"] = "1"


def num_cores() -> int:
    """Returns how many cores this process may use: a scheduler may have given it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Returns the name of the CPU."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.M) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def describe_machine() -> str:
    """Describes processor, cores that this process may use, GPUs and system: `AMD EPYC 9V74, 2 cores, Linux x86_64`."""
    infos = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    gpus = [found[1] for info in infos if (found := re.search(r"^Model:\s*(.+)$", info.read_text(), re.M))]
    parts = [processor(), f"{num_cores()} cores", *gpus, f"{platform.system()} {platform.machine()}"]
    return ", ".join(parts)


def ensure_home() -> None:
    """Sets HOME for a user without one (a container's): libraries would make a folder called `~` where they stand."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = tempfile.mkdtemp(prefix="streetseg-home-")


def has_launcher() -> bool:
    """Returns whether a launcher of several processes (Lightning's, torchrun) has started this one."""
    return any(name in os.environ for name in ("WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"))


def drop_stray_ranks() -> None:
    """Removes ranks that no launcher gave: without a number of processes, this process is the only one.

    A stray RANK=1 of a shell would otherwise make it wait, or train without a log and a checkpoint.
    """
    if not has_launcher():
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"):
            os.environ.pop(name, None)


def is_first_process() -> bool:
    """Returns whether this is the only process, or rank 0 of several (Lightning's, torchrun's or Slurm's)."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def die_with(parent: int) -> bool:
    """Makes the kernel kill this process, stopped or not, if its parent dies; ends at once if that has died already.

    Args:
        parent: process id of the parent when this process was started.

    Returns:
        False on a system that cannot do this (it is Linux's).
    """
    if not sys.platform.startswith("linux"):
        return False
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def describe_end(status: int) -> str:
    """Describes the end of a process by its exit status, negative for a signal."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    return f"was killed by {name}{REASONS.get(name, '')}"


def is_stopped(process: int) -> bool:
    """Returns whether a process of this machine is stopped (SIGSTOP, Ctrl-Z, a debugger), as far as can be seen."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False
