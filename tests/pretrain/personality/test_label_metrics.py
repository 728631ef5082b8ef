"""Figures against labels, compared with scikit-learn's and with values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pretrain.personality.label_metrics import (
    auc,
    average_precision,
    calibration_error,
    confused_pairs,
    measure,
)


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_as_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.random(60) < 0.2
        truth[:2] = True, False
        score = rng.integers(levels, size=60) / levels + 0.2 * truth
        assert auc(truth, score) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
        assert average_precision(truth, score) == pytest.approx(
            average_precision_score(truth, score), abs=1e-12
        )


def test_by_hand() -> None:
    truth = np.zeros((4, 325), np.bool_)
    truth[[0, 1, 2, 3], [10, 10, 20, 30]] = True
    truth[3, 20] = True
    score = np.linspace(0, 0.01, 325)[None].repeat(4, 0)[:, ::-1].copy()
    score[:, [10, 20, 30]] = [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.1, 0.7, 0.0], [0.3, 0.2, 0.6]]
    found = measure(truth, score)
    # 10: texts at .9 and .2 against .1 and .3: three of four; 20: .7 and .2 against .1 and .8; 30: all.
    assert [one.auc for one in found.tokens] == [0.75, 0.5, 1.0]
    assert [one.texts for one in found.tokens] == [2, 2, 1]
    assert found.auc == 0.75
    assert found.hits == {1: 0.75, 5: 1.0, 8: 1.0}
    assert found.coverage == 1.0
    (pair,) = confused_pairs(truth, score, [f"t{i}" for i in range(325)])
    assert (pair.label, pair.instead, pair.texts, pair.share) == ("t10", "t20", 1, 0.5)


def test_a_label_that_every_text_has_has_no_auc_and_leaves_the_mean_alone() -> None:
    truth = np.zeros((3, 325), np.bool_)
    truth[:, 0] = True
    truth[0, 1] = True
    found = measure(truth, truth.astype(np.float64))
    assert np.isnan(found.tokens[0].auc)
    assert found.auc == 1.0


def test_equal_scores_hit_as_often_as_chance() -> None:
    truth = np.zeros((4000, 325), np.bool_)
    truth[np.arange(4000), np.arange(4000) % 325] = True
    hits = measure(truth, np.ones(truth.shape)).hits
    assert hits[8] == pytest.approx(8 / 325, abs=4 * np.sqrt(8 / 325 / 4000))


def test_calibration_by_hand() -> None:
    truth = np.array([[True], [False], [True], [True]])
    # Two bins: .9 and .9 of which one of two is true, and .1 twice, both true.
    score = np.array([[0.9], [0.9], [0.1], [0.1]])
    assert calibration_error(truth, score) == pytest.approx((0.8 + 1.8) / 4)
    assert calibration_error(truth, truth.astype(float)) == 0
