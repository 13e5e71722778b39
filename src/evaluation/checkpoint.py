"""Reads checkpoints of this program, in which only tensors are unpickled, and weights of published runs, no others."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.half import read_safetensors
from src.models.weight_files import first_line
from src.runs.seal import check_sound

WEIGHTS = ("state_dict", "epoch", "global_step")  # keys that every checkpoint has
TRAINING = (*WEIGHTS, "loops", "callbacks", "optimizer_states", "lr_schedulers")  # and those to continue from
WITHIN = "within_epoch"  # key of the checkpoints that were saved in the middle of an epoch
ANOTHER = "put back a copy of it, or give another checkpoint=best|last|before|FILE"
ANEW = "put back a copy of it, or train anew beside this run with resume=false"


def read_checkpoint(path: Path, remedy: str, needed: tuple[str, ...] = WEIGHTS) -> dict[str, Any]:
    """Reads a checkpoint, whose tensors stay in the file until they are used, or the weights of a published run.

    Args:
        remedy: of a damaged or foreign file, for the message.
        needed: keys that it must have.

    Raises:
        UserError: the file is damaged, or not a checkpoint of this program.
    """
    is_published = path.suffix == ".safetensors"
    if not is_published:
        check_sound(path, remedy)
    try:
        content = _read_published(path) if is_published else torch.load(path, "cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except Exception as error:  # torch and pickle raise errors of many kinds
        why = "it holds objects, which are not built" if "weights_only" in str(error) else first_line(error)
        raise UserError(f"{path}: cannot be read as a checkpoint of this program ({why}); {remedy}") from error
    missing = [key for key in needed if key not in content] if isinstance(content, dict) else ["state_dict"]
    if not missing:
        state = content["state_dict"]
        is_state = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
        is_counted = all(type(content[key]) is int for key in ("epoch", "global_step"))
        missing = [] if is_state and is_counted else ["state dict with numbers of epochs and steps"]
    if missing:
        raise UserError(
            f"{path}: is not a checkpoint of this program to use here (it has no {missing[0]}); {remedy}; to train "
            "from its weights give init_from=FILE"
        )
    return content


def _read_published(path: Path) -> dict[str, Any]:
    """Reads the weights of a published run as a checkpoint."""
    state, notes = read_safetensors(path)
    counts = {"epoch": int(notes["epoch"]) - 1, "global_step": int(notes["step"])} if "epoch" in notes else {}
    return {"state_dict": state, **counts}


def load_weights(task: nn.Module, path: Path) -> tuple[int, int]:
    """Loads a checkpoint's weights; returns its numbers of whole epochs and of steps.

    Raises:
        UserError: the file is damaged or foreign, or the weights do not fit the network.
    """
    content = read_checkpoint(path, ANOTHER)
    try:
        task.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(f"{path}: does not fit the network of this run's config.yaml: {reason}") from error
    return content["epoch"] + (WITHIN not in content), content["global_step"]


def check_continues(task: nn.Module, path: Path) -> None:
    """Raises UserError unless a training of this task can continue from a checkpoint."""
    state, expected = read_checkpoint(path, ANEW, TRAINING)["state_dict"], task.state_dict()
    differing = [
        name
        for name in expected.keys() | state.keys()
        if name not in state or name not in expected or state[name].shape != expected[name].shape
    ]
    if differing:
        raise UserError(
            f"{path}: does not fit the network of this run, perhaps because its code was changed ({len(differing)} "
            f"tensors differ; first: {min(differing)}); {ANEW}"
        )
