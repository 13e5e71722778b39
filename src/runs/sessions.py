"""The sessions of a run: each start of its command, with the code, the versions and the machine."""

import hashlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from src.files import HOME, PACKAGE
from src.machine import describe_machine

Session = dict[str, Any]
PACKAGES = (
    "torch", "lightning", "torchmetrics", "segmentation-models-pytorch", "timm", "albumentations",
    "opencv-python-headless", "numpy", "hydra-core", "wandb",
)  # fmt: skip
_BEGAN_AT, _BEGAN = datetime.now(UTC), time.monotonic()  # of this process


def describe_session(module: str, words: Sequence[str] | None = None, *, continues: bool) -> Session:
    """Describes the session that begins now; `words`: its arguments, if they are not those of this process."""
    return {
        "command": " ".join(["python", "-m", module, *(sys.argv[1:] if words is None else words)]),
        "started": time_now(),
        "continues_checkpoint": continues,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain")),
        "code": code_digest(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "machine": describe_machine(),
    }


def time_now() -> str:
    """Returns the time in UTC as sessions record it. Within a process it never goes back, whatever the clock does."""
    elapsed = timedelta(seconds=time.monotonic() - _BEGAN)
    return (_BEGAN_AT + elapsed).isoformat(timespec="seconds")


def differences(earlier: Session, now: Session) -> list[str]:
    """Lists what differs between the code and the versions of two sessions; commits only if the code does."""
    found = []
    if earlier.get("code") != now["code"]:
        commits = [str(session.get("git_commit"))[:8] for session in (earlier, now)]
        changed = "the same commit with other changes" if commits[0] == commits[1] else "another commit"
        found.append(f"code: {changed}, {commits[0]} -> {commits[1]}")
    before = {"python": earlier.get("python"), **earlier.get("versions", {})}
    after = {"python": now["python"], **now["versions"]}
    return found + [f"{name}: {before.get(name)} -> {after[name]}" for name in after if before.get(name) != after[name]]


@cache
def code_digest() -> str:
    """Hashes the code and the configurations of this program, committed or not."""
    content = hashlib.sha256()
    for folder, pattern in ((PACKAGE, "*.py"), (HOME / "conf", "*.yaml")):
        for path in sorted(folder.rglob(pattern)):
            content.update(path.relative_to(HOME).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def _version(package: str) -> str | None:
    """None where a node has a package's modules without its metadata, or trains without wandb."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    if HOME == PACKAGE:  # installed: the repository around it, if any, is another one
        return "unknown"
    try:
        result = subprocess.run(["git", *arguments], cwd=HOME, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip()
