"""The source of first weights, `init_from=RUN|FILE`: found, and known by its content, before torch is imported."""

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.files import damaged, has_file, read_json
from src.runs.folder import RunFolder
from src.runs.zoo import find_run, is_in_zoo, nearest_runs

SUFFIXES = (".ckpt", ".pth", ".pt", ".tar", ".bin", ".safetensors")
CLASSES = "data.classes."  # the beginning of the keys in a run's identity.json that name its classes


@dataclass(frozen=True)
class Origin:
    """A file that first weights come from."""

    path: str  # of the weights file
    digest: str  # of its content
    classes: list[str] | None  # names in the order of the ids, if the folder of a run has them; None: unknown


def find_origin(given: str) -> Origin:
    """Finds the best checkpoint of a run folder, or a weights file.

    Raises:
        UserError: nothing there (names the nearest), a run without a checkpoint yet, a file of another kind.
    """
    path = find_run(given)
    if path.is_dir():
        run = RunFolder(path)
        path = run.weights if run.is_published else run.best
        if not path.is_file():
            fault = "has no checkpoint yet" if run.config.is_file() else f"is no run folder (no {run.config.name})"
            hint = nearest_runs(run.path) if is_in_zoo(run.path) else ""
            raise UserError(f"init_from={given}: {fault}{hint}; give a run that was validated once, or a weights file")
    if not path.is_file() and is_in_zoo(path):
        raise UserError(f"init_from={given}: no such network{nearest_runs(path)}; give one of them, or null")
    if not path.is_file():
        siblings = [sibling.name for sibling in path.parent.glob("*")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, 3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise UserError(f"init_from={given}: no run folder or file there{hint}; give one, or null")
    if path.suffix not in SUFFIXES:
        raise UserError(f"init_from={given}: must be a run folder or a file that ends in {', '.join(SUFFIXES)}")
    run = RunFolder.of(path)
    keys = read_json(run.identity) if has_file(run.identity) else {}
    if not isinstance(keys, dict):
        raise damaged(run.identity, "no object")
    classes = [key.removeprefix(CLASSES) for key in keys if key.startswith(CLASSES)]
    if run.is_published and path == run.weights:
        classes = list(run.palette)
    return Origin(str(path), content_digest(path), classes or None)


def content_digest(path: Path) -> str:
    """Hashes the content of a file of weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
