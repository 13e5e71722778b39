"""Student's t against printed tables; a summary by hand; Tukey's test against formulas and printed tables."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from src.runs.statistics import compare, student_t, summarise


def test_printed_tables() -> None:
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}
    for freedom, value in printed.items():
        assert student_t(freedom) == pytest.approx(value, abs=5e-4)
    assert student_t(4, 0.99) == pytest.approx(4.604, abs=5e-4)


def test_a_summary_by_hand() -> None:
    """Mean 3, deviation sqrt(10 / 4), t 2.776 at 4 degrees of freedom."""
    summary = summarise([1, 2, 3, 4, 5])
    assert (summary.count, summary.mean) == (5, 3)
    assert summary.deviation == pytest.approx(math.sqrt(2.5))
    assert summary.high - 3 == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert 3 - summary.low == pytest.approx(summary.high - 3)


def test_one_figure_has_no_deviation() -> None:
    summary = summarise([0.5])
    assert summary.mean == 0.5
    assert math.isnan(summary.deviation)
    assert math.isnan(summary.low)


def test_two_groups_are_compared_as_by_a_t_test() -> None:
    """With two groups Tukey's test is Student's with the pooled deviation."""
    one, two = [0.31, 0.33, 0.30, 0.34], [0.36, 0.35, 0.39]
    (found,) = compare({"one": one, "two": two}, [("two", "one")])
    freedom = len(one) + len(two) - 2
    pooled = math.sqrt((3 * np.var(one, ddof=1) + 2 * np.var(two, ddof=1)) / freedom)
    difference, error = np.mean(two) - np.mean(one), pooled * math.sqrt(1 / 4 + 1 / 3)
    assert found.mean == pytest.approx(difference)
    assert found.p == pytest.approx(2 * stats.t.sf(difference / error, freedom), rel=1e-4)
    half = student_t(freedom) * error
    assert (found.low, found.high) == pytest.approx((difference - half, difference + half), rel=1e-4)
    assert found.is_shown


def test_three_groups_share_their_deviation_and_their_risk() -> None:
    """The critical value of three groups of two is 5.910 (printed tables: q of 3 groups at 3 degrees of freedom)."""
    groups = {"a": [0.1, 0.3], "b": [0.2, 0.4], "c": [0.5, 0.6], "left out": [0.9]}
    first, second = compare(groups, [("b", "a"), ("c", "a"), ("left out", "a")])
    pooled = math.sqrt(np.mean([np.var(groups[name], ddof=1) for name in "abc"]))
    assert first.high - first.mean == pytest.approx(5.910 * pooled / math.sqrt(2), rel=1e-3)
    assert second.mean == pytest.approx(0.35)
    assert not first.is_shown


def test_scipys_test_of_all_pairs_agrees() -> None:
    groups = {"a": [0.1, 0.3, 0.2], "b": [0.2, 0.4], "c": [0.5, 0.6, 0.4, 0.5], "d": [0.9, 0.7]}
    expected = stats.tukey_hsd(*groups.values())
    interval = expected.confidence_interval()
    for each in compare(groups, list(itertools.permutations(groups, 2))):
        at = tuple(list(groups).index(name) for name in (each.line, each.against))
        assert each.p == pytest.approx(expected.pvalue[at], abs=1e-6)
        assert (each.low, each.high) == pytest.approx((interval.low[at], interval.high[at]), abs=1e-5)
        assert each.mean == pytest.approx(expected.statistic[at])
