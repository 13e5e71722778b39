"""Statistics of several runs: mean, standard deviation, intervals, and tests of differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.runs.records import Summary

LEVEL = 0.95  # of all intervals


@dataclass(frozen=True)
class Difference:
    """The difference of the means of two groups of runs, by Tukey's test of all groups of a table."""

    line: str
    against: str  # the line whose mean is subtracted
    mean: float
    low: float  # of the 95 % interval, which holds for all pairs of the table at once
    high: float
    p: float  # probability of a difference as large or larger in any pair, if all means were equal

    @property
    def is_shown(self) -> bool:
        """Whether the runs show that the two differ, at 5 %."""
        return self.p < 1 - LEVEL


def summarise(values: Sequence[float]) -> Summary:
    """Summarises one figure or more, with the 95 % interval of their mean by Student's t."""
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


def compare(groups: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]) -> list[Difference]:
    """Compares pairs of groups by Tukey's test (Tukey-Kramer if their sizes differ).

    The spread is estimated from all groups together, so that two or three runs per group can show something; this
    assumes that it is the same in all of them.

    Args:
        groups: the figures of the runs of each line. Lines with fewer than two are left out.
        pairs: names of two lines each; a pair with a line that was left out is left out too.
    """
    from scipy.stats import studentized_range  # takes a second, for which --help must not wait

    used = {name: list(values) for name, values in groups.items() if len(values) > 1}
    pairs = [pair for pair in pairs if used.keys() >= set(pair)]
    if not pairs:
        return []
    found = {name: summarise(values) for name, values in used.items()}
    freedom = sum(each.count - 1 for each in found.values())
    variance = math.fsum((each.count - 1) * each.deviation**2 for each in found.values()) / freedom
    critical = float(studentized_range.ppf(LEVEL, len(found), freedom))
    result = []
    for line, against in pairs:
        one, other = found[line], found[against]
        error = math.sqrt(variance / 2 * (1 / one.count + 1 / other.count))
        mean, half = one.mean - other.mean, critical * error
        q = abs(mean) / error if error else math.inf
        p = float(studentized_range.sf(q, len(found), freedom)) if mean else 1.0
        result.append(Difference(line, against, mean, mean - half, mean + half, p))
    return result
