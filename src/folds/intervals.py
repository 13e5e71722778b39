"""Mean, standard deviation and confidence interval of a few figures."""

import math
from collections.abc import Sequence

from src.errors import UserError
from src.runs.records import Summary

LEVEL = 0.95


def summarise(values: Sequence[float]) -> Summary:
    """UserError where there is no figure."""
    if not values:
        raise UserError("a summary of no figures")
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = student_t(count - 1) * deviation / math.sqrt(count)
    return Summary(count, mean, deviation, mean - half, mean + half)


def student_t(freedom: int, level: float = LEVEL) -> float:
    """The t whose interval [-t, t] holds `level` of Student's distribution with `freedom` degrees of freedom."""
    low, high = 0.0, 1.0
    while central_share(high, freedom) < level:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if central_share(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def central_share(t: float, freedom: int) -> float:
    """Share of Student's distribution in [-t, t] (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    term, total = (cosine, 0.0) if freedom % 2 else (1.0, 0.0)
    for k in range(1 + freedom % 2, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if freedom % 2 else total
