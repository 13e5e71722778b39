"""Whether a server can be reached: a node without internet must find out in seconds, not in minutes of retries."""

import os
import socket
from urllib.parse import urlparse


def reachable(url: str, timeout: float = 3.0) -> bool:
    """True when a connection to the URL's host opens within `timeout` seconds, or a proxy stands between."""
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
