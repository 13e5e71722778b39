"""What this machine is and has: cores, network, and this process's place among those of a run."""

import os
import socket
from urllib.parse import urlparse


def reachable(url: str, timeout: float = 3.0) -> bool:
    """True when a connection to the URL's host opens within `timeout` seconds, or a proxy stands between.

    A node without internet must find out in seconds, not in minutes of some client's retries.
    """
    parts = urlparse(url)
    if os.environ.get(f"{parts.scheme}_proxy") or os.environ.get(f"{parts.scheme.upper()}_PROXY"):
        return True
    try:
        with socket.create_connection(
            (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), timeout
        ):
            return True
    except OSError:
        return False


def spare_hub_retries() -> None:
    """Where the Hugging Face hub cannot be reached, lets its client look into its cache alone.

    It would otherwise retry for half a minute before it says so. To be called before it is imported.
    """
    if not reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        os.environ["HF_HUB_OFFLINE"] = "1"


def num_cores() -> int:
    """Cores that this process may use (a scheduler may have given it fewer than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_first_process() -> bool:
    """Whether this is the one process, or rank 0 of several (Lightning's, torchrun's or Slurm's)."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
