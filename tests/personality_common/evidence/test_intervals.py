"""Confidence intervals beside SciPy's, and how often they hold what they should."""

import math

import numpy as np
import pytest
from scipy import stats

from personality_common.evidence.intervals import mean_interval


@pytest.mark.parametrize("count", [2, 7, 300])
def test_of_a_mean(count: int) -> None:
    values = np.random.default_rng(count).gamma(2.0, 3.0, count)
    found = mean_interval(values)
    low, high = stats.norm.interval(0.95, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.mean == pytest.approx((low + high) / 2)


def test_float32_is_averaged_in_float64() -> None:
    values = np.full(1 << 20, 0.1, np.float32)
    assert mean_interval(values).mean == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_of_one_value_nothing_is_known() -> None:
    assert mean_interval([3.0]) == (3.0, math.inf)


def test_coverage() -> None:
    """Of 4,000 samples of 100 exponential values; a normal interval of skewed values covers 93 to 95%."""
    draws = np.random.default_rng(0).exponential(1.0, (4000, 100))
    covered = np.mean([abs(i.mean - 1.0) <= i.half for i in map(mean_interval, draws)])
    assert 0.92 <= covered <= 0.955
