"""Confidence intervals."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Z95: Final = NormalDist().inv_cdf(0.975)
"""Deviations of a normal distribution between which 95% of it lie: 1.96."""


class Interval(NamedTuple):
    """A mean, and half the width of its interval."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def mean_interval(values: ArrayLike) -> Interval:
    """The 95% interval of a mean, normal: m ± z s / sqrt(n), s with n - 1 below.

    For the 100 and more texts that are measured on; of 30 values it is 4% narrower than Student's t.

    Args:
        values: (n,) independent draws; of one, half the width is infinite.

    Source: Wald, see Casella and Berger, Statistical Inference, 10.4.1.
    """
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return Interval(float(array.mean()), math.inf)
    return Interval(float(array.mean()), Z95 * float(array.std(ddof=1)) / math.sqrt(len(array)))
