"""The bounds against scipy, likelihoods maximized by search, and sums over all outcomes."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from device_sim.night.gate.bounds import mean_bound, sign_p_value, task_bound, worst_group

LEVEL = 0.05


@pytest.mark.parametrize("n", [8, 60])
def test_without_skew_it_is_students(n: int) -> None:
    half = np.random.default_rng(n).standard_normal(n // 2)
    gains = 0.3 + np.concatenate([half, -half])
    expected = stats.ttest_1samp(gains, 0.0, alternative="greater").confidence_interval(1 - LEVEL).low
    assert float(mean_bound(gains, LEVEL)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_with_skew_it_is_the_lesser_of_students_and_halls(sign: int) -> None:
    gains = sign * np.random.default_rng(3).lognormal(0, 0.8, 40)
    n, mean, spread = len(gains), gains.mean(), gains.std(ddof=1)
    g = stats.skew(gains)

    def hall(t: float) -> float:
        """The transformed t, as in the paper: https://doi.org/10.1111/j.2517-6161.1992.tb01872.x, 2.3."""
        return t + g * t**2 / (3 * math.sqrt(n)) + g**2 * t**3 / (27 * n) + g / (6 * math.sqrt(n))

    quantile = float(stats.t.ppf(1 - LEVEL, n - 1))
    t = float(optimize.brentq(lambda t: hall(t) - quantile, -20, 20))
    assert (t > quantile) == (sign < 0)
    assert float(mean_bound(gains, LEVEL)) == pytest.approx(mean - max(t, quantile) * spread / math.sqrt(n))


def test_mean_bound_of_one_and_of_equal_examples() -> None:
    assert float(mean_bound(np.array([3.0]), LEVEL)) == -math.inf
    assert float(mean_bound(np.full(9, 0.1), LEVEL)) == pytest.approx(0.1)
    rows = np.random.default_rng(0).standard_normal((3, 20))
    each = [float(mean_bound(row, LEVEL)) for row in rows]
    assert mean_bound(rows, LEVEL).tolist() == pytest.approx(each)


@pytest.mark.parametrize(
    ("won", "lost", "of"), [(0, 0, 5), (1, 12, 120), (9, 3, 60), (0, 1, 30), (30, 0, 30)]
)
def test_task_bound_is_where_the_score_test_turns(won: int, lost: int, of: int) -> None:
    net = task_bound(won, lost, of, LEVEL)
    still = of - won - lost

    def unlikely(share: float) -> float:
        """Minus the log-likelihood of a share lost, with the share won fixed by the net one."""
        parts = ((lost, share), (won, share + net), (still, 1 - 2 * share - net))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in parts if count)

    low, high = max(0.0, -net), (1 - net) / 2
    share = float(
        optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    )
    statistic = (won - lost - of * net) / math.sqrt(of * (2 * share + net - net**2))
    assert statistic == pytest.approx(stats.norm.ppf(1 - LEVEL), abs=1e-3)


@pytest.mark.parametrize(
    ("of", "tolerance", "most"), [(144, 0.10, 0.0515), (60, 0.15, 0.0515), (10, 0.35, 0.09), (6, 0.35, 0.09)]
)
@pytest.mark.parametrize("won", [0.0, 0.02, 0.10])
def test_task_bound_holds_its_level_over_all_outcomes(
    of: int, tolerance: float, most: float, won: float
) -> None:
    """A candidate that loses just the tolerance passes with 5% at most, and not with next to nothing.

    Of six or ten questions it passes with up to 9%: none lost of six has .65 to the power of six.
    """
    lost = won + tolerance
    passes = 0.0
    for c in range(of + 1):
        # More won is better: the fewest that pass.
        b = next((b for b in range(of - c + 1) if task_bound(b, c, of, LEVEL) > -tolerance), None)
        if b is not None:
            passes += stats.binom.pmf(c, of, lost) * stats.binom.sf(b - 1, of - c, won / (1 - lost))
        if stats.binom.sf(c, of, lost) < 1e-6 or (b is None and c > of / 2):
            break
    assert 0.03 < passes < most


def test_task_bound_of_nothing() -> None:
    assert task_bound(0, 0, 0, LEVEL) == -1


@pytest.mark.parametrize(("better", "worse"), [(5, 0), (3, 3), (0, 4), (12, 5)])
def test_sign_p_value_is_the_binomial_test(better: int, worse: int) -> None:
    expected = stats.binomtest(better, better + worse, alternative="greater").pvalue
    assert sign_p_value(better, worse) == pytest.approx(expected)


def test_worst_group_is_corrected_for_their_number() -> None:
    groups = ["a"] * 8 + ["b"] * 8 + ["c"] * 8
    gains = [-1.0] * 7 + [0.0] + [1.0] * 8 + [-1.0, 1.0] + [0.0] * 6
    assert worst_group(groups, gains) == ("a", pytest.approx(3 / 2**7))
    assert worst_group([], []) == ("", 1.0)
    assert worst_group(groups, [0.0] * 24)[1] == 1.0
