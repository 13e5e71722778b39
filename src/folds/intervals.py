"""Mean, standard deviation and confidence interval of a few figures."""

import math
from collections.abc import Sequence

from src.errors import UserError
from src.runs.records import Summary

LEVEL = 0.95


def summarise(values: Sequence[float]) -> Summary:
    """Summarises figures, with the 95 % interval of their mean by Student's t.

    Raises:
        UserError: there are no figures.
    """
    if not values:
        raise UserError("a summary of no figures")
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = student_t(count - 1) * deviation / math.sqrt(count)
    return Summary(count, mean, deviation, mean - half, mean + half)


def student_t(freedom: int, level: float = LEVEL) -> float:
    """Returns the t for which [-t, t] holds `level` of Student's distribution with `freedom` degrees of freedom."""
    from scipy.stats import t  # takes a second, for which --help must not wait

    return float(t.ppf((1 + level) / 2, freedom))
