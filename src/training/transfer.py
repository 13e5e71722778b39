"""Starting from another training's weights: `init_from=RUN|FILE` copies what fits by name and shape, and tells it.

The source is looked for, and known by its content, before torch is imported.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")
CLASSES = "data.classes."  # of the keys in a run's identity.json
MOST_TOLD = 6  # tensors that are named in the table


@dataclass(frozen=True)
class Origin:
    """Where first weights come from.

    Args:
        path: of the weights file.
        digest: of its content.
        classes: names in the order of the ids, where a run's folder tells them; None: unknown.
    """

    path: str
    digest: str
    classes: list[str] | None


def find_origin(given: str) -> Origin:
    """A run folder's best checkpoint, or a weights file.

    Raises:
        UserError: nothing there (names the nearest), a run without a checkpoint yet, a file of another kind.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        run, path = path, path / "checkpoints" / "best.ckpt"
        if not path.is_file():
            what = "has no checkpoint yet" if (run / "config.yaml").is_file() else "is no run folder (no config.yaml)"
            raise UserError(f"init_from={given}: {what}; give a run that was validated once, or a weights file")
    if not path.is_file():
        siblings = [sibling.name for sibling in path.parent.glob("*")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, 3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise UserError(f"init_from={given}: no run folder or file there{hint}; give one, or null")
    if path.suffix not in SUFFIXES:
        raise UserError(f"init_from={given}: must be a run folder or a file that ends in {', '.join(SUFFIXES)}")
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return Origin(str(path), content, _classes(path.parent.parent))


def _classes(run: Path) -> list[str] | None:
    """Class names of the run in this folder, if there is one."""
    identity = run / "identity.json"
    if not identity.is_file():
        return None
    keys = json.loads(identity.read_text())
    return [key.removeprefix(CLASSES) for key in keys if key.startswith(CLASSES)] or None


@dataclass(frozen=True)
class Transfer:
    """What a source gives a network, by the names of the architecture's tensors.

    Args:
        loaded: the tensors to copy.
        reshaped: those of another shape in the source: (shape there, shape here).
        anew: those that fit but belong to a classifier of other classes.
        missing: those that the source does not have.
        unused: names of the source that the architecture does not have.
        normalisation: the source's mean and standard deviation in 0..255, where it has them.
    """

    loaded: dict[str, Tensor]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    anew: list[str]
    missing: list[str]
    unused: list[str]
    normalisation: tuple[Tensor, Tensor] | None

    @property
    def has_encoder(self) -> bool:
        """Whether every tensor of the encoder is among the loaded ones."""
        there = [name for name in self.loaded if name.startswith("encoder.")]
        lacking = [*self.reshaped, *self.anew, *(name for name in self.missing if not _is_counter(name))]
        return bool(there) and not any(name.startswith("encoder.") for name in lacking)


def plan_transfer(architecture: nn.Module, origin: Origin, class_tensors: set[str]) -> Transfer:
    """Compares the source's tensors with the architecture's; copies nothing.

    Args:
        class_tensors: names of tensors that must not be taken over, as they belong to other classes.

    Raises:
        UserError: nothing that was learnt fits.
    """
    from src.models.weights import read_weights, strip

    content = read_weights(Path(origin.path))
    given = strip({name: value for name, value in content.items() if not name.startswith("confusion.")})
    normalisation = (given.pop("mean", None), given.pop("std", None))
    expected = architecture.state_dict()
    loaded, reshaped, anew, missing = {}, {}, [], []
    for name, tensor in expected.items():
        if name not in given:
            missing.append(name)
        elif given[name].shape != tensor.shape:
            reshaped[name] = (tuple(given[name].shape), tuple(tensor.shape))
        elif name in class_tensors:
            anew.append(name)
        else:
            loaded[name] = given[name]
    # Kernels and matrices: norms and biases of a width fit networks that have nothing else in common.
    if not any(tensor.ndim > 1 for tensor in loaded.values()):
        theirs, ours = next(iter(given), "none"), next(iter(expected))
        raise UserError(
            f"init_from={origin.path}: no weights in it fit this network ({len(given)} tensors there, {len(expected)} "
            f"here; the first are {theirs} and {ours}); give a source of the same model and backbone, or, for a "
            "backbone alone, backbone.weights=FILE"
        )
    unused = [name for name in given if name not in expected]
    return Transfer(loaded, reshaped, anew, missing, unused, None if None in normalisation else normalisation)


def copy_weights(architecture: nn.Module, transfer: Transfer) -> None:
    """Puts the loaded tensors in place; all others stay as they are."""
    architecture.load_state_dict({**architecture.state_dict(), **transfer.loaded})


def class_tensors(first: nn.Module, second: nn.Module) -> set[str]:
    """Names of what depends on the number of classes: tensors whose shapes differ between networks of K and K + 1."""
    others = second.state_dict()
    return {name for name, tensor in first.state_dict().items() if tensor.shape != others[name].shape}


def describe(transfer: Transfer, origin: Origin, classes: list[str], mean: Tensor, std: Tensor) -> str:
    """A short table of what was loaded, what was not and why; then what became of classifier and normalisation."""
    from rich.table import Table

    from src.reports.tables import render

    table = Table("part")
    columns = {
        "loaded": transfer.loaded, "skipped: shape": transfer.reshaped, "skipped: classes": transfer.anew,
        "new": transfer.missing,
    }  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right")
    for part in dict.fromkeys(_part(name) for names in columns.values() for name in names):
        counts = [sum(_part(name) == part for name in names) for names in columns.values()]
        table.add_row(part, *(str(count) if count else "" for count in counts))
    lines = [f"init_from {origin.path}", render(table)]
    for name, (there, here) in list(transfer.reshaped.items())[:MOST_TOLD]:
        lines.append(f"skipped {name}: {'x'.join(map(str, there))} there, {'x'.join(map(str, here))} here")
    if (more := len(transfer.reshaped) - MOST_TOLD) > 0:
        lines.append(f"skipped {more} more for their shapes")
    if transfer.unused:
        lines.append(f"not used: {len(transfer.unused)} tensors that this network has not ({transfer.unused[0]}, ...)")
    lines.append(_describe_classifier(origin, classes))
    if transfer.normalisation is not None:
        lines += _describe_normalisation(transfer.normalisation, mean, std)
    return "\n".join(lines)


def _describe_classifier(origin: Origin, classes: list[str]) -> str:
    if origin.classes is None:
        return "classifier: the source does not tell its classes; taken over where its shape fits"
    if origin.classes == classes:
        return f"classifier: taken over, the source has the same {len(classes)} classes"
    return f"classifier: made anew for {_short(classes)}; the source has {_short(origin.classes)}"


def _describe_normalisation(theirs: tuple[Tensor, Tensor], mean: Tensor, std: Tensor) -> list[str]:
    import torch

    differs = [
        (name, there.flatten() / 255)
        for name, there, here in zip(("mean", "std"), theirs, (mean, std), strict=True)
        if not torch.allclose(there.flatten(), here.flatten().to(there), rtol=1e-4)
    ]
    keys = " ".join(f"data.{name}=[{','.join(f'{value:.4g}' for value in values)}]" for name, values in differs)
    return (
        [f"note: images are normalised by this run's data.mean and data.std; the source's: {keys}"] if differs else []
    )


def _short(names: list[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _part(name: str) -> str:
    return name.split(".")[0]


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
