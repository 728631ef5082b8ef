"""Fitting the router to the seed: weights, temperature, and when it abstains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.text.identity import EncoderIdentity

from .flags import LABELS, NAMES, flags
from .records import Record, seed_sha256
from .router import Coefficients, columns, softmax

INVERSE_PENALTY: Final = 10.0
"""C of the regression; from 1 to 30 the held-out error moves by .02."""
FOLDS: Final = 8
ABSTAINED: Final = 0.17
"""Share of hard held-out records that the threshold is set to: at most a fifth may abstain, less a margin.

Of the hard ones, since they are what a chat has that no seed foresees; of all records fewer abstain."""


def fit(
    records: Sequence[Record], embeddings: NDArray[np.float32], encoder: EncoderIdentity, seed: int = 0
) -> Coefficients:
    """Fit all records; temperature and threshold come from folds that hold out whole families.

    Args:
        records: N of them.
        embeddings: (N, 384) of their texts.
        encoder: whose embeddings they are.
        seed: of the folds.

    Source: temperature scaling, Guo et al., arXiv:1706.04599.
    """
    flag_rows = np.array([flags(one.text) for one in records])
    means = flag_rows.astype(np.float64).mean(axis=0)
    rows = columns(embeddings, flag_rows, means)
    labels = np.array([LABELS.index(one.label) for one in records])
    held_out = np.zeros((len(records), len(LABELS)))
    for train, test in folds(records, FOLDS, seed):
        weights, bias = _regression(rows[train], labels[train])
        held_out[test] = rows[test] @ weights.T + bias
    temperature = _temperature(held_out, labels)
    likeliest = softmax(held_out / temperature).max(axis=1)
    threshold = float(np.quantile(likeliest[[one.hard for one in records]], ABSTAINED))
    weights, bias = _regression(rows, labels)
    return Coefficients(encoder, seed_sha256(), NAMES, means, weights, bias, temperature, threshold)


def folds(records: Sequence[Record], n: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Indices to fit and to hold out: a family is held out whole, labels as evenly as that allows."""
    from sklearn.model_selection import StratifiedGroupKFold

    split = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    return list(split.split(records, [one.label for one in records], [one.family for one in records]))


def _regression(
    rows: NDArray[np.float64], labels: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=3_000, class_weight="balanced", tol=1e-6)
    model.fit(rows, labels)
    return model.coef_, model.intercept_


def _temperature(logits: NDArray[np.float64], labels: NDArray[np.intp]) -> float:
    """What divides the logits so that the held-out labels are likeliest."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = softmax(logits / np.exp(log_temperature))
        return float(-np.log(scaled[np.arange(len(labels)), labels] + 1e-12).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 3.0), method="bounded").x))
