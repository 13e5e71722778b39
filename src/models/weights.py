"""State dicts of networks: chosen from a file, renamed, compared with a network, and loaded."""

import re
from collections.abc import Collection
from pathlib import Path

from torch import Tensor, nn

from src.errors import UserError
from src.models.weight_files import State, read_states

# Names that stand before a network's own: in checkpoints of src.train, under DataParallel, after torch.compile.
WRAPPERS = ("module", "network", "architecture", "_orig_mod")
# The same before the names of an encoder.
ENCODER_WRAPPERS = (*WRAPPERS, "encoder", "backbone", "model")
# Names that programs give to the network's state dict in a file that holds more.
CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")


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
    """Reads the state dict of a file: the one that its name says is the network's, else the largest in it.

    Raises:
        UserError: the file is damaged, or holds no state dict.
    """
    states = read_states(path)
    named = [key for key in CONTAINERS if key in states]
    return states[named[0] if named else max(states, key=lambda key: len(states[key]))]


def strip(state: State, wrappers: Collection[str] = WRAPPERS) -> State:
    """Removes the names of wrappers, in any order and number, from the beginning of every key."""
    prefix = re.compile(rf"^(?:(?:{'|'.join(wrappers)})\.)+")
    return {prefix.sub("", key): value for key, value in state.items()}


def is_statistic(tensor: Tensor) -> bool:
    """Returns whether a tensor has the shape of a mean per channel of images."""
    return tensor.ndim == 4 and tensor.shape[1] in (3, 4) and tensor.numel() == tensor.shape[1]


def normalisation_of(state: State, stripped: str = "") -> tuple[Tensor, Tensor] | None:
    """Returns mean and standard deviation in 0..255 that stand above a network's tensors; None if there are none.

    Args:
        state: may hold them in 0..1, as other programs write them.
        stripped: the names before the network's own.
    """
    parts = stripped.split(".")[:-1]
    for depth in range(len(parts), -1, -1):
        above = "".join(f"{part}." for part in parts[:depth])
        mean, std = state.get(f"{above}mean"), state.get(f"{above}std")
        if mean is not None and std is not None and mean.shape == std.shape and is_statistic(mean):
            return (mean, std) if std.max() > 1 else (mean * 255, std * 255)
    return None


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
