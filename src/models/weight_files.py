"""Reads files of weights that any program wrote, and unpickles nothing in them but tensors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from src.errors import UserError
from src.models.half import State, read_safetensors

DEPTH = 2  # dicts around a state dict
# Objects that often lie beside a state dict; those of a file in torch's older format cannot be listed.
USUAL = (
    "argparse.Namespace", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype",
    "numpy.dtypes.Float64DType", "numpy.dtypes.Float32DType",
)  # fmt: skip


class Foreign:
    """Stands for an object in a file that is no tensor: it is neither built nor used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def read_states(path: Path) -> dict[str, State]:
    """Returns every state dict in a .safetensors file or one of torch.save, by the key that holds it.

    The key of one that is not within another dict is empty.

    Raises:
        UserError: the file is damaged, or holds no state dict.
    """
    try:
        content = read_safetensors(path)[0] if path.suffix == ".safetensors" else _load(path)
    except UserError:
        raise
    except Exception as error:  # torch, pickle and safetensors raise errors of many kinds
        raise UserError(f"{path}: {_reason(path, error)}") from error
    states = dict(_states(content))
    if not states:
        raise UserError(f"{path}: holds no state dict; save model.state_dict() with the program that wrote it")
    return states


def _load(path: Path) -> Any:
    """Loads a file of torch.save, in which each object that is no tensor becomes a `Foreign`."""
    try:
        names = get_unsafe_globals_in_checkpoint(str(path))
    except ValueError:
        names = list(USUAL)
    with safe_globals([(Foreign, name) for name in names]):
        return torch.load(path, "cpu", weights_only=True)


def _states(content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Yields the tensors by name of a dict and of those within it, with their keys."""
    if not isinstance(content, dict):
        return
    texts = {name: value for name, value in content.items() if isinstance(name, str)}
    if state := {name: value for name, value in texts.items() if isinstance(value, Tensor)}:
        yield key, state
    if depth < DEPTH:
        for name, value in texts.items():
            yield from _states(value, f"{key}.{name}" if key else name, depth + 1)


def _reason(path: Path, error: BaseException) -> str:
    """Describes why a file holds no weights, by its first bytes."""
    with path.open("rb") as file:
        begin = file.read(200)
    if not begin:
        return "is empty; fetch it again"
    if begin.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS in place of the weights; run git lfs pull in its repository"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in begin):
        return "is a text, perhaps the page of an error, and not a weights file; fetch it again"
    if path.suffix == ".safetensors":
        return f"not a weights file ({first_line(error)}); fetch it again"
    return (
        f"not a weights file ({type(error).__name__}): it is cut off, or holds code, which is not run; fetch it again, "
        "or save model.state_dict() with the program that wrote it"
    )


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, at most 200 characters, or its type if it has none."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
