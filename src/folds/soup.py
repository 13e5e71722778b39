"""Averages of the weights of several networks: means, the greedy soup, and what may be averaged at all. torch only."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from src.errors import UserError

State = Mapping[str, Tensor]


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of state dicts of one architecture, tensor by tensor.

    Sums are in float64, in the order given, so that the mean of n equal tensors of float32 or narrower is bitwise that
    tensor. What is no number to average (integer counters, such as BatchNorm's of its batches) is the first's. The
    mean of BatchNorm's statistics is not those of the mean network: `src.training.batchnorm.remeasure` gives them.

    Returns:
        New tensors, of the first's types and devices.

    Raises:
        UserError: no state; states of different architectures (`check_same_tensors` says it by name).
    """
    if not states:
        raise UserError("a mean of no networks; give at least one")
    for place, other in enumerate(states[1:], 2):
        check_same_tensors(("the first network", states[0]), (f"network {place}", other))
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
    """UserError, naming both, where two networks do not have tensors of the same names and shapes."""
    (one, ours), (other, theirs) = first, second
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        shapes = [_shape(state[name]) if name in state else "absent" for state in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{one} and {other} are different architectures: {name} is {shapes[0]} and {shapes[1]}; average runs "
                "of one model and backbone"
            )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def rank(scores: Sequence[float]) -> list[int]:
    """Places of the scores from the best to the worst; of equal ones (and of NaN, the worst) the earlier first."""
    return sorted(range(len(scores)), key=lambda place: (scores[place] != scores[place], -scores[place], place))


def greedy_soup(order: Sequence[int], score: Callable[[tuple[int, ...]], float]) -> tuple[int, ...]:
    """Greedy soup (Wortsman et al. 2022): from the best network on, adds the next where the mean's score does not fall.

    Args:
        order: networks, best first.
        score: of the mean of some of them, given sorted.

    Returns:
        The members, sorted.
    """
    members = (order[0],)
    best = score(members)
    for candidate in order[1:]:
        tried = tuple(sorted((*members, candidate)))
        if (value := score(tried)) >= best:
            members, best = tried, value
    return members
