"""Figures of a ranking of tokens against labels, in numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import TOP_K

HITS: Final = (1, 5, TOP_K)
CALIBRATION_BINS: Final = 15
PAIRS: Final = 20

Scores = NDArray[np.floating]
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class TokenFigures:
    """Of one label.

    Attributes:
        token: its position in the vocabulary.
        texts: that have it.
        auc: see `auc`.
        average_precision: see `average_precision`.
    """

    token: int
    texts: int
    auc: float
    average_precision: float


@dataclass(frozen=True)
class Measured:
    """Of one source of scores.

    Attributes:
        auc, average_precision: mean over labels.
        hits: of 1, 5 and 8: share of the texts of which any label is among so many highest tokens.
        coverage: share of the labels that are among any text's 8 highest.
        calibration_error: see `calibration_error`, over labels.
        tokens: of each label.
    """

    auc: float
    average_precision: float
    hits: dict[int, float]
    coverage: float
    calibration_error: float
    tokens: tuple[TokenFigures, ...]


@dataclass(frozen=True)
class Confusion:
    """A label, and a label that stands above it where it should not.

    Attributes:
        label, instead: tokens; `instead` is no label of the text.
        texts: of the label, in which `instead` is the highest of all labels' tokens.
        share: of all texts of the label.
    """

    label: str
    instead: str
    texts: int
    share: float


def auc(truth: Truth, score: Scores) -> float:
    """Area under the ROC curve: how often a text that has the label scores above one that has not.

    Ties count half. Source: Mann and Whitney, 1947, by ranks.

    Args:
        truth: (N,), neither all true nor all false; NaN comes out otherwise.
        score: (N,).
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: Truth, score: Scores) -> float:
    """Sum of the precision at each threshold times the recall gained there; tied texts share a threshold."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(truth[order])[last]
    taken = np.arange(1, len(truth) + 1)[last]
    return float((found / taken * np.diff(found, prepend=0)).sum() / max(1, int(truth.sum())))


def calibration_error(truth: Truth, score: Scores) -> float:
    """Expected calibration error: mean of |mean score - share that is true| over bins of equal width.

    Weighted by how many pairs of a text and a label are in a bin. Source: Naeini et al., AAAI 2015.

    Args:
        truth, score: (N, K); scores in [0, 1].
    """
    bins = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins.ravel(), (score - truth).ravel(), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / truth.size)


def measure(truth: Truth, score: Scores) -> Measured:
    """All figures of (N, 325) scores against (N, 325) labels.

    Among equal scores a random one, of a fixed seed, comes first: else the alphabet would rank.
    """
    spoken = np.flatnonzero(truth.any(axis=0))
    tokens = tuple(
        TokenFigures(
            int(j),
            int(truth[:, j].sum()),
            auc(truth[:, j], score[:, j]),
            average_precision(truth[:, j], score[:, j]),
        )
        for j in spoken
    )
    noise = np.random.default_rng(0).random(score.shape)
    top = np.lexsort((noise, -score), axis=1)[:, : max(HITS)]
    hit = np.take_along_axis(truth, top, axis=1)
    return Measured(
        auc=float(np.nanmean([one.auc for one in tokens])),
        average_precision=float(np.mean([one.average_precision for one in tokens])),
        hits={k: float(hit[:, :k].any(axis=1).mean()) for k in HITS},
        coverage=float(np.isin(spoken, top[:, :TOP_K]).mean()),
        calibration_error=calibration_error(truth[:, spoken], score[:, spoken]),
        tokens=tokens,
    )


def confused_pairs(truth: Truth, score: Scores, names: Sequence[str]) -> tuple[Confusion, ...]:
    """The pairs of labels that are most often confused, at most PAIRS; among equals, as the names sort."""
    spoken = np.flatnonzero(truth.any(axis=0))
    truth = truth[:, spoken]
    first = score[:, spoken].argmax(axis=1)
    wrong = ~truth[np.arange(len(truth)), first]
    counts = np.zeros((len(spoken), len(spoken)), np.int64)
    for label in range(len(spoken)):
        counts[label] = np.bincount(first[wrong & truth[:, label]], minlength=len(spoken))
    pairs = [
        Confusion(
            names[spoken[i]], names[spoken[j]], int(counts[i, j]), float(counts[i, j] / truth[:, i].sum())
        )
        for i, j in zip(*counts.nonzero(), strict=True)
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.texts, pair.label, pair.instead))[:PAIRS])
