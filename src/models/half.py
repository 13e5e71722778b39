"""Weights to publish: kernels in 16 bits, no pickle, a digest of the content. Reads any file of safetensors."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from src.errors import UserError
from src.files import atomic_path

State = dict[str, Tensor]
DIGEST = "sha256"  # key of the digest in a file's metadata
SMALL = 256  # values; tensors of at most as many stay as they are


def to_half(state: Mapping[str, Tensor]) -> State:
    """Returns contiguous copies on the CPU, kernels and matrices as float16.

    Vectors and small tensors (BatchNorm's statistics and factors, biases, mean and std) stay in 32 bits: they are a
    hundredth of the size, and their rounding moves whole channels. Integers stay too.

    Raises:
        UserError: a value that 16 bits cannot hold, or that is not finite; names its tensor.
    """
    packed = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        is_large = tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel() > SMALL
        packed[name] = tensor.half() if is_large else tensor.clone()
        if not torch.isfinite(packed[name]).all():
            fault = "is not finite" if not torch.isfinite(tensor).all() else "is beyond the range of 16 bits"
            raise UserError(
                f"a value of {name} {fault} (largest {tensor.abs().max():.3g}); train again, and publish that"
            )
    return packed


def write_safetensors(path: Path, state: State, notes: Mapping[str, str]) -> None:
    """Writes contiguous tensors in one step, with notes and a digest of the content in the metadata of the file."""
    metadata = {**notes, "format": "pt", DIGEST: digest(state)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, metadata))  # its own writer makes files that only their owner reads


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Reads tensors, those of 16 bits as float32, and the metadata of a file.

    Raises:
        UserError: the content is not what was written.
        SafetensorError: it is no file of safetensors.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    if DIGEST in metadata and metadata[DIGEST] != digest(state):
        raise UserError(
            f"{path}: is damaged (its content is not what was written); put back a copy of it (of a network of the "
            "zoo: git checkout)"
        )
    half = (torch.float16, torch.bfloat16)
    return {name: tensor.float() if tensor.dtype in half else tensor for name, tensor in state.items()}, metadata


def digest(state: Mapping[str, Tensor]) -> str:
    """Hashes names, types, shapes and bytes of contiguous tensors."""
    content = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()
