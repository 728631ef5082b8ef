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


def share_interval(hits: int, of: int) -> Interval:
    """The 95% interval of a share, Wilson's; its middle is not hits / of.

    Args:
        of: independent trials; of none the share may be anything.

    Source: Wilson 1927, Probable inference, J. Am. Stat. Assoc. 22(158), 209-212.
    """
    if of == 0:
        return Interval(0.5, 0.5)
    z2 = Z95**2
    middle = (hits + z2 / 2) / (of + z2)
    half = Z95 * math.sqrt(hits * (of - hits) / of + z2 / 4) / (of + z2)
    return Interval(middle, half)
