"""Student's t against printed tables; a summary by hand."""

import math

import pytest

from src.runs.statistics import student_t, summarise


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
