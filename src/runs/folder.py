"""The run folder: everything one training leaves behind, and all that reports read."""

from src.errors import UserError
import fcntl
import json
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

from src.files import write_json
from src.machine import num_cores

PACKAGES = (
    "torch", "lightning", "torchmetrics", "segmentation-models-pytorch", "timm", "albumentations",
    "opencv-python-headless", "numpy", "hydra-core", "wandb",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths in `runs/<name>/`, and its two records: how it was made (`environment.json`) and `results.json`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def has_weights(self) -> bool:
        """Whether there is a checkpoint, or was one to evaluate."""
        checkpoints = [path for path in self.path.rglob("*.ckpt") if not path.name.startswith(".")]  # written whole
        return bool(checkpoints) or self.read_results()["finished"]

    def clear(self) -> None:
        """Removes what a run without weights left, for one of another configuration; its log and sessions stay.

        The configuration is first to go: a folder without it is none yet, and a kill here does no harm.
        """
        for path in (self.config, self.identity, self.metrics):
            path.unlink(missing_ok=True)
        for name in ("folds", "panels"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        if environment := self.read_environment():
            write_json(self.environment, {**environment, "id": _new_id()})  # W&B would add to the earlier run

    def checkpoint(self, which: str) -> Path:
        """Path of "best", "last" or a file. UserError says which there are."""
        path = self.path / "checkpoints" / f"{which}.ckpt" if which in ("best", "last") else Path(which)
        if not path.is_file():
            there = sorted(file.stem for file in (self.path / "checkpoints").glob("*.ckpt"))
            raise UserError(f"checkpoint={which}: no file {path}; this run has {', '.join(there) or 'none yet'}")
        return path

    def read_results(self) -> dict[str, Any]:
        """`{"finished": bool, "evaluations": {tag: evaluation}}`, empty before the first."""
        if not self.results.is_file():
            return {"finished": False, "evaluations": {}}
        return json.loads(self.results.read_text())

    def add_evaluation(self, evaluation: dict[str, Any], *, finished: bool) -> None:
        """Adds one evaluation under its tag; the same protocol on the same checkpoint replaces itself.

        The one that finishes the training stands first: tables and sweeps report it, whatever was evaluated before.
        """
        results = self.read_results()
        results["finished"] = results["finished"] or finished
        results["evaluations"][evaluation["tag"]] = evaluation
        if finished:
            others = {tag: value for tag, value in results["evaluations"].items() if tag != evaluation["tag"]}
            results["evaluations"] = {evaluation["tag"]: evaluation, **others}
        write_json(self.results, results)

    def note_session(self, module: str = "src.train") -> None:
        """Adds this start of an entry point to `environment.json`: command, commit, versions, machine."""
        record = self.read_environment() or {"id": _new_id(), "sessions": []}
        record["sessions"].append(
            {
                "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "continues_checkpoint": self.last.is_file(),
                "git_commit": _git("rev-parse", "HEAD"),
                "git_changes": bool(_git("status", "--porcelain")),
                "python": platform.python_version(),
                "versions": {package: version(package) for package in PACKAGES},
                "machine": f"{platform.system()} {platform.machine()}, {num_cores()} cores",
            }
        )
        write_json(self.environment, record)

    def read_environment(self) -> dict[str, Any]:
        return json.loads(self.environment.read_text()) if self.environment.is_file() else {}

    def lock(self) -> IO:
        """Holds the folder for this process, until it closes the file or dies. UserError where another holds it."""
        file = (self.path / ".lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise UserError(
                f"{self.path}: another process is training in this run folder; wait for it, or set resume=false "
                "to start a run beside it"
            ) from error
        return file


def describe_evaluation(
    matrix: np.ndarray,
    classes: list[str],
    protocol: dict[str, Any],
    checkpoint: dict[str, Any],
    taints: Sequence[str] = (),
) -> dict[str, Any]:
    """One evaluation as `results.json` keeps it: the tag, every figure, and the matrix (rows truth) they come from.

    Args:
        taints: what the weights had to do with these images (`src.runs.leakage`); part of protocol and tag; `src.reports.tables`
            marks every figure that has any.
    """
    from src.metrics import figures

    result = figures(matrix)
    if taints:
        protocol = {**protocol, "taints": list(taints)}
    tag = f"{protocol['labels']} {protocol['split']} ({protocol['images']} images), {protocol['inference']}"
    if protocol["precision"] != "32-true":
        tag += f", {protocol['precision']}"
    if checkpoint["name"] != "best":
        tag += f", checkpoint {checkpoint['name']}"
    if taints:
        tag += f"; TAINTED: {'; '.join(taints)}"
    return {
        "tag": tag,
        "protocol": protocol,
        "checkpoint": checkpoint,
        "miou": result.miou,
        "pixel_accuracy": result.pixel_accuracy,
        "mean_accuracy": result.mean_accuracy,
        "frequency_weighted_iou": result.frequency_weighted_iou,
        "iou": dict(zip(classes, map(float, result.iou), strict=True)),
        "accuracy": dict(zip(classes, map(float, result.accuracy), strict=True)),
        "share": dict(zip(classes, map(float, result.share), strict=True)),
        "matrix": np.asarray(matrix).tolist(),
    }


def _new_id() -> str:
    return uuid.uuid4().hex[:8]


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip()
