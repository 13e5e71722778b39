"""The sessions of a run: each start of its command, with the code, the versions and the machine."""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from src.machine import describe_machine

Session = dict[str, Any]
PACKAGES = (
    "torch", "lightning", "torchmetrics", "segmentation-models-pytorch", "timm", "albumentations",
    "opencv-python-headless", "numpy", "hydra-core", "wandb",
)  # fmt: skip
ROOT = Path(__file__).parents[2]


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
        "versions": {package: version(package) for package in PACKAGES},
        "machine": describe_machine(),
    }


def time_now() -> str:
    """Returns the time in UTC as sessions record it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
    for folder, pattern in (("src", "*.py"), ("conf", "*.yaml")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            content.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip()
