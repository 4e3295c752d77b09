import math

import pytest

from lightning_cnn.sweep.statistics import estimate


def test_mean_deviation_and_interval_by_students_t():
    known = estimate([0.90, 0.91, 0.92, 0.93])

    assert known.mean == pytest.approx(0.915)
    assert known.deviation == pytest.approx(0.0129099, abs=1e-7)  # √(0.0005 / 3)
    margin = 3.182446 * 0.0129099 / 2  # 3.182446: 97.5 % of t with three degrees of freedom lie below, from a table
    assert (known.low, known.high) == pytest.approx((0.915 - margin, 0.915 + margin), abs=1e-7)


def test_the_interval_stays_within_the_bounds_of_the_metric():
    assert estimate([0.98, 1.0], (0, 1)).high == 1.0
    assert estimate([0.0, 0.02], (0, 1)).low == 0.0
    assert estimate([0.5, 0.5, 0.5]) == (0.5, 0, 0.5, 0.5)


def test_one_value_has_no_spread():
    known = estimate([0.9])

    assert known.mean == 0.9
    assert all(map(math.isnan, (known.deviation, known.low, known.high)))
