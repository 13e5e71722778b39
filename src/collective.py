"""Sums over the processes (ranks) of a training on several devices, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def num_ranks() -> int:
    """Returns the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sums tensors of one shape over the ranks, all of which must call this; the tensor itself if there is one rank.

    The gradient is that of the sum of all ranks' losses. DDP averages the gradients of ranks; so a loss that each rank
    computes from sums over the ranks has the gradient of one process with the whole batch.
    """
    return tensor if num_ranks() == 1 else _Sum.apply(tensor)  # pyright: ignore[reportReturnType]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _reduced(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient)


def _reduced(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
