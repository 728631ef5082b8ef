"""Measures against scipy, NumPy, and values computed by hand."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from personality_common.evidence.distances import HISTOGRAM_EDGES, measure, spearman, top_indices, top_overlap


def test_by_hand() -> None:
    reference = np.array([[3.0, 4.0, 0.0], [1.0, 2.0, 2.0]])
    value = reference + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
    found = measure(value, reference, ranked=False)
    assert (found.rows, found.nonfinite, found.worst_row, found.worst_column) == (2, 0, 1, 2)
    assert found.max_abs == 0.5
    assert found.mean_abs == pytest.approx(0.5 / 6)
    assert found.scaled_abs == 0.25  # the row's greatest magnitude is 2
    assert found.relative == pytest.approx(0.5 / 3)  # ||(1, 2, 2)|| = 3
    assert found.cosine == pytest.approx((1 + 4 + 5) / (3 * math.sqrt(1 + 4 + 6.25)))
    assert found.cosine is not None
    assert found.mean_cosine == pytest.approx((1 + found.cosine) / 2)
    assert found.psnr == pytest.approx(20 * math.log10(4 / math.sqrt(0.25 / 6)))
    assert (found.top8, found.rank, found.mean_rank) == (None, None, None)
    assert found.equal == 5
    where = HISTOGRAM_EDGES.index(-0.5)  # log10(0.5) is -0.3
    assert found.histogram[where] == sum(found.histogram) == 1


def test_equal_arrays() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 20))
    found = measure(rows, rows, ranked=True)
    assert (found.max_abs, found.relative, found.psnr, found.top8, found.rank) == (0, 0, None, 1, 1)
    assert found.cosine == pytest.approx(1)
    assert found.equal == rows.size
    zeros = np.zeros((2, 9))
    found = measure(zeros, zeros, ranked=True)
    assert (found.cosine, found.rank, found.relative) == (1, 1, 0)


def test_spearman_is_scipys_with_ties() -> None:
    draw = np.random.default_rng(1)
    value, reference = draw.integers(0, 9, (2, 6, 40)).astype(float)
    wanted = [spearmanr(a, b).statistic for a, b in zip(value, reference, strict=True)]
    np.testing.assert_allclose(spearman(value, reference), wanted, rtol=1e-12)


def test_top_tokens() -> None:
    reference = np.arange(20.0)[None]
    value = reference.copy()
    value[0, 0] = 100  # pushes index 12, the eighth, out
    assert top_overlap(value, reference).tolist() == [7 / 8]
    assert top_indices(reference).tolist() == [[19, 18, 17, 16, 15, 14, 13, 12]]
    assert top_indices(np.zeros((1, 20))).tolist() == [list(range(8))], "ties go to the lower index"


def test_nonfinite() -> None:
    reference = np.array([[1.0, np.nan, 3.0], [np.inf, -np.inf, np.nan], [1.0, 2.0, 3.0]])
    agree = np.array([[np.nan, np.inf, 3.0], [np.nan, np.inf, -np.inf], [1.0, 2.0, 3.5]])
    found = measure(agree, reference, ranked=False)
    assert found.nonfinite == 1, "the first value; of what kind a value is not finite does not matter"
    assert (found.max_abs, found.worst_row, found.worst_column) == (0.5, 2, 2)
    nothing = measure(np.full((2, 3), np.nan), np.full((2, 3), np.inf), ranked=True)
    assert (nothing.nonfinite, nothing.max_abs, nothing.top8) == (0, None, None)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shapes must be equal, got \(2, 3\) and \(2, 4\)"):
        measure(np.zeros((2, 3)), np.zeros((2, 4)), ranked=False)
