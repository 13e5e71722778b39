"""Averages the weights of several networks: the mean, the greedy soup, and the check that they fit together."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from src.errors import UserError

State = Mapping[str, Tensor]


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """Averages one state dict or more of one architecture (`check_same_tensors`), tensor by tensor.

    Sums are in float64, in the order given, so that the mean of n equal tensors of float32 or narrower is bitwise that
    tensor. Integer tensors, such as BatchNorm's counter of batches, are taken from the first. The mean of BatchNorm's
    statistics is not that of the mean network, which `src.training.batchnorm.remeasure` measures.
    The tensors are new, of the types and on the devices of the first.
    """
    return {name: _mean([state[name] for state in states]) for name in states[0]}


def _mean(tensors: list[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    total = first.to(torch.float64, copy=True)
    for tensor in tensors[1:]:
        total += tensor.to(total)
    return (total / len(tensors)).to(first.dtype)


def check_same_tensors(first: tuple[str, State], second: tuple[str, State]) -> None:
    """Raises UserError, with both names, unless two networks have tensors of the same names and shapes."""
    (one, tensors), (other, others) = first, second
    for name in dict.fromkeys([*tensors, *others]):
        shapes = [_shape(state[name]) if name in state else "absent" for state in (tensors, others)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{one} and {other} are different architectures: {name} is {shapes[0]} and {shapes[1]}; average runs "
                "of one model and backbone"
            )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def rank(scores: Sequence[float]) -> list[int]:
    """Returns the indices of the scores, best first; NaN is the worst, and equal ones keep their order."""
    return sorted(range(len(scores)), key=lambda index: (math.isnan(scores[index]), -scores[index], index))


def greedy_soup(order: Sequence[int], score: Callable[[tuple[int, ...]], float]) -> tuple[int, ...]:
    """Selects the greedy soup (Wortsman et al. 2022); returns the sorted indices of its members.

    Starts with the best network and adds each next one unless the score of the mean falls.

    Args:
        order: indices of the networks, best first.
        score: returns the score of the mean of some networks, by their sorted indices.
    """
    members = (order[0],)
    best = score(members)
    for candidate in order[1:]:
        tried = tuple(sorted((*members, candidate)))
        if (value := score(tried)) >= best:
            members, best = tried, value
    return members
