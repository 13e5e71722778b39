"""What several runs of a configuration show together: mean, spread, intervals, and tests of differences."""

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
    from scipy.stats import tukey_hsd  # takes a second, for which --help must not wait

    used = {name: list(values) for name, values in groups.items() if len(values) > 1}
    pairs = [pair for pair in pairs if used.keys() >= set(pair)]
    if not pairs:
        return []
    result, places = tukey_hsd(*used.values()), {name: place for place, name in enumerate(used)}
    interval = result.confidence_interval(LEVEL)
    found = []
    for line, against in pairs:
        at = places[line], places[against]
        mean = summarise(used[line]).mean - summarise(used[against]).mean
        low, high = float(interval.low[at]), float(interval.high[at])
        found.append(Difference(line, against, mean, low, high, float(result.pvalue[at])))
    return found
