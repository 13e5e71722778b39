"""W&B's server and its helper process: whether the one answers to a key, and the end of the other."""

import base64
import http.client
import json
import netrc
import os
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import wandb
from wandb.sdk import wandb_setup

from src.callbacks.background import within
from src.errors import UserError

ANSWER_S = 6.0  # seconds in which the server must answer
TEARDOWN_S = 3.0  # seconds in which W&B must let go of its helper process
QUERY = {"query": "query Viewer { viewer { id } }"}


def missing_for_online() -> str | None:
    """Returns the reason why W&B cannot be online now, or None if its server knows the key.

    A connection that opens is not enough: a login page of a hotel, a proxy or a broken server would each make W&B
    itself retry for minutes.
    """
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    try:
        key = find_key(server)
    except UserError as error:
        return str(error)
    if key is None:
        return "no key (wandb login, or WANDB_API_KEY)"
    try:
        return within(ANSWER_S, lambda: _fault(server, key))
    except TimeoutError as error:
        return f"{server}: {error}"


def find_key(server: str) -> str | None:
    """Returns the key from the environment or from `wandb login`; W&B itself would prompt for one.

    Raises:
        UserError: the file of `wandb login` cannot be read.
    """
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        found = netrc.netrc(file).authenticators(urlparse(server).hostname or "") if file.is_file() else None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); repair it, or set WANDB_API_KEY") from error
    return (found[2] or None) if found else None


def _fault(server: str, key: str) -> str | None:
    """Asks the server who the owner of the key is; returns what is wrong with the answer."""
    headers = {
        "Authorization": f"Basic {base64.b64encode(f'api:{key}'.encode()).decode()}",
        "Content-Type": "application/json",
        "User-Agent": "streetseg",
    }
    request = urllib.request.Request(f"{server}/graphql", json.dumps(QUERY).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S + 1) as response:
            content = json.loads(response.read(1_000_000))
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        return f"{server} answered {error.code}{', it does not take the key' if refused else ''}"
    except ValueError:
        return f"{server} answered with something that is not W&B's (no JSON)"
    except (OSError, http.client.HTTPException) as error:  # no connection, or a broken one
        return f"{server}: {error or type(error).__name__}"
    viewer = (content.get("data") or {}).get("viewer") if isinstance(content, dict) else None
    return None if viewer else f"{server}: does not know the key"


def end_helper(*, gently: bool = False) -> None:
    """Ends W&B's helper process (wandb-core) if this process has started one, within seconds.

    It would otherwise hold this process at its end for as long as it tries to reach a server, or forever if stopped.

    Args:
        gently: lets it write what it has, first; only after the run was finished, whose threads would complain.
    """
    process = _helper()
    if gently:
        _forget()
    if process is not None:
        with suppress(OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait(TEARDOWN_S)
    _forget()


def check_helper() -> None:
    """Raises ConnectionResetError if the helper process has died, which takes what is sent without a word at first."""
    process = _helper()
    if process is not None and process.poll() is not None:
        raise ConnectionResetError("its helper process has died")


def _helper() -> subprocess.Popen | None:
    """Returns the helper process that this process has started, if any."""
    connection = getattr(wandb_setup.singleton(), "_connection", None)
    return getattr(getattr(connection, "_proc", None), "_process", None)


def _forget() -> None:
    """Makes W&B let go of the helper process; of a dead one it complains in one way or another, or exits."""
    with suppress(Exception, SystemExit):
        within(TEARDOWN_S, wandb.teardown)
