"""How little a mean gain may be: lower confidence bounds for few, skewed and heavy-tailed differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mean_bound(gains: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Lower bound of the mean of gains of any size: the lesser of Student's and Hall's.

    Student's is right for what is symmetric, and too high where a few losses are large: gains that are skewed
    to the left. Hall's transformed t takes the skew out, but alone is too high for heavy tails on both sides.
    Of the lesser the level holds for both from some 60 examples. With 10 to 20, and losses so rare that a
    sample may show none of them, the chance is up to three times the level (tests/benchmarks/bench_gate.py):
    no bound knows of what was not seen.

    Args:
        gains: (..., n) independent differences, of finite variance.
        level: chance that the mean lies below.

    Returns:
        (...); -inf for one example.

    Source: Hall 1992, On the removal of skewness by transformation, J. R. Statist. Soc. B 54(1), 221-228.
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    n = gains.shape[-1]
    mean = gains.mean(-1)
    if n < 2:
        return np.full_like(mean, -math.inf)
    off = gains - mean[..., None]
    square = (off**2).mean(-1)
    error = np.sqrt(square / (n - 1))
    t = float(stdtrit(n - 1, 1 - level))
    still = square <= (1e-12 * np.maximum(1.0, np.abs(mean))) ** 2  # all equal, but for rounding
    skew = (off**3).mean(-1) / np.where(still, 1.0, square) ** 1.5 / math.sqrt(n)
    tilt = np.where(np.abs(skew) < 1e-6, 1e-6, skew)  # without skew the limit is t itself
    hall = 3 / tilt * (np.cbrt(1 + tilt * (t - tilt / 6)) - 1)
    bound: NDArray[np.float64] = np.where(still, mean, mean - np.maximum(t, hall) * error)
    return bound


def task_bound(gains: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Lower bound of the mean of changes of tasks' scores, each from -1 to 1, most of them 0.

    One task won and one lost are added to those that were seen, so that five tasks of which none changed do
    not prove that none would. Of scores of 0 and 1 it is the adjusted Wald interval of a paired difference.

    Args:
        gains: (..., n); n may be 0.

    Source: Bonett and Price 2012, Adjusted Wald confidence interval for a difference of binomial proportions
        based on paired data, J. Educ. Behav. Stat. 37(4), 479-488.
    """
    from scipy.special import ndtri

    n = gains.shape[-1] + 2
    mean = gains.sum(-1) / n
    square = ((gains**2).sum(-1) + 2) / n - mean**2
    bound: NDArray[np.float64] = mean - float(ndtri(1 - level)) * np.sqrt(square / n)
    return bound


def sign_p_value(better: int, worse: int) -> float:
    """Chance that of so many changes so many or more are for the better, if each is as likely as not.

    Source: McNemar's exact test.
    """
    n = better + worse
    return float(sum(math.comb(n, k) for k in range(better, n + 1)) / 2**n)


def worst_group(groups: Sequence[str], gains: Sequence[float]) -> tuple[str, float]:
    """The group that was harmed most surely, and the chance that it, or any, looks so by chance.

    Returns:
        Its name, and the least p-value of McNemar's test times the number of groups (Bonferroni); ("", 1)
        without groups.
    """
    names = sorted(set(groups))
    found = [("", 1.0)]
    for name in names:
        of = [gain for group, gain in zip(groups, gains, strict=True) if group == name]
        won, lost = sum(gain > 0 for gain in of), sum(gain < 0 for gain in of)
        found.append((name, min(1.0, len(names) * sign_p_value(lost, won))))
    return min(found, key=lambda entry: entry[1])
