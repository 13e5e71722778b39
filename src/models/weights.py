"""State dicts: read from files without unpickling, renamed, compared with a network, and loaded."""

import re
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.half import read_safetensors

State = dict[str, Tensor]

# Names that stand before a network's own: in checkpoints of src.train, under DataParallel, after torch.compile.
WRAPPERS = ("module", "network", "architecture", "_orig_mod")
# The same before the names of an encoder.
ENCODER_WRAPPERS = (*WRAPPERS, "encoder", "backbone", "model")


def find_weights(key: str, value: str, allowed: str) -> Path:
    """Returns the path of an existing file.

    Raises:
        UserError: there is no such file; names the dotted `key` and the values that it takes, `allowed`.
    """
    path = Path(value).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={value}: no such file; give {allowed}")
    return path


def read_weights(path: Path) -> State:
    """Reads the state dict of a .safetensors or .pth file; unpickles nothing but tensors.

    Raises:
        UserError: the file is damaged, or holds no state dict.
    """
    try:
        is_published = path.suffix == ".safetensors"
        content = read_safetensors(path)[0] if is_published else torch.load(path, "cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: not a weights file ({first_line(error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict; save model.state_dict() there")
    return content


def strip(state: State, wrappers: Collection[str] = WRAPPERS) -> State:
    """Removes the names of wrappers, in any order and number, from the beginning of every key."""
    prefix = re.compile(rf"^(?:(?:{'|'.join(wrappers)})\.)+")
    return {prefix.sub("", key): value for key, value in state.items()}


def load_weights(
    module: nn.Module, state: State, source: str, target: str, remedy: str, optional: str = "", exact: bool = False
) -> None:
    """Copies a state dict into a module, if its names and shapes are the module's.

    BatchNorm's counters may be missing from the state dict; they stay as they are.

    Args:
        state: tensors by the module's own names.
        source: the file, and the key that gave it, for the message; so are `target`, the name of the network, and
            `remedy`, the advice at its end.
        optional: prefix of a part that may be missing as a whole.
        exact: whether tensors that the module does not have are refused; else they are not used.

    Raises:
        UserError: tensors are missing, have another shape, or are unknown.
    """
    expected = module.state_dict()
    is_partial = bool(optional) and not any(key.startswith(optional) for key in state)
    needed = [key for key in expected if not (is_partial and key.startswith(optional))]
    missing = [key for key in needed if key not in state and not key.endswith("num_batches_tracked")]
    reshaped = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    unknown = [key for key in state if key not in expected] if exact else []
    if wrong := [*missing, *reshaped, *unknown]:
        counts = {"missing": missing, "of another shape": reshaped, "unknown": unknown}
        faults = ", ".join(f"{len(keys)} {fault}" for fault, keys in counts.items() if keys)
        raise UserError(
            f"{source}: weights of another network than {target}, which has {len(expected)} tensors: {faults} "
            f"(first: {wrong[0]}); {remedy}"
        )
    # smp's encoders override it, and take away what they think is a classifier's.
    nn.Module.load_state_dict(module, {key: state.get(key, value) for key, value in expected.items()})


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, at most 200 characters, or its type if it has none."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
