"""How far two arrays are apart: the measures of a parity report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import TOP_K

Array = NDArray[Any]

HISTOGRAM_EDGES: Final = tuple(np.arange(-10.0, 2.01, 0.5).tolist())
"""log10 of |difference|; what is smaller or greater goes to the first or the last bin."""


@dataclass(frozen=True)
class Measures:
    """`value` against `reference`, both (N, D); float64 arithmetic.

    All but `nonfinite` are over the rows that are finite on both sides, and None where there are
    none (or where the measure does not apply).

    Attributes:
        rows: N.
        nonfinite: elements that are finite on one side only.
        max_abs, mean_abs: of |difference|.
        scaled_abs: max over rows of max |difference| / max(1, max |reference|): what is compared with
            an absolute tolerance where magnitudes are extreme.
        relative: ||difference|| / ||reference||, the worst row.
        cosine, mean_cosine: least and mean over rows; of two zero rows it is 1.
        psnr: 20 log10((max - min of reference) / rms difference), dB; None where equal.
        top8: mean share of the 8 greatest in common; ties go to the lower index.
        rank, mean_rank: Spearman's rho over the D elements of a row, least and mean.
        worst_row, worst_column: of `max_abs`.
        histogram: elements by log10 |difference|, after `HISTOGRAM_EDGES`; equal ones are not in it.
        equal: elements without any difference.
    """

    rows: int
    nonfinite: int
    max_abs: float | None
    mean_abs: float | None
    scaled_abs: float | None
    relative: float | None
    cosine: float | None
    mean_cosine: float | None
    psnr: float | None
    top8: float | None
    rank: float | None
    mean_rank: float | None
    worst_row: int | None
    worst_column: int | None
    histogram: tuple[int, ...]
    equal: int


def measure(value: Array, reference: Array, *, ranked: bool) -> Measures:
    """Compare.

    Args:
        value, reference: (N, D), of one shape.
        ranked: whether the order of a row's elements has a meaning, as it has for logits.

    Raises:
        ValueError: different shapes.
    """
    if value.shape != reference.shape:
        raise ValueError(f"shapes must be equal, got {value.shape} and {reference.shape}")
    rows = len(value)
    value = value.reshape(rows, -1).astype(np.float64)
    reference = reference.reshape(rows, -1).astype(np.float64)
    nonfinite = int((np.isfinite(value) != np.isfinite(reference)).sum())
    kept = np.flatnonzero(np.isfinite(value).all(axis=1) & np.isfinite(reference).all(axis=1))
    if not kept.size:
        nothing = (None,) * 12
        return Measures(rows, nonfinite, *nothing, (0,) * (len(HISTOGRAM_EDGES) - 1), 0)
    value, reference = value[kept], reference[kept]
    difference = np.abs(value - reference)
    worst = np.unravel_index(int(difference.argmax()), difference.shape)
    cosines = _cosines(value, reference)
    ranks = spearman(value, reference) if ranked else None
    return Measures(
        rows,
        nonfinite,
        float(difference.max()),
        float(difference.mean()),
        float((difference.max(axis=1) / np.maximum(1.0, np.abs(reference).max(axis=1))).max()),
        float(_relative(difference, reference).max()),
        float(cosines.min()),
        float(cosines.mean()),
        _psnr(difference, reference),
        float(top_overlap(value, reference).mean()) if ranked else None,
        float(ranks.min()) if ranks is not None else None,
        float(ranks.mean()) if ranks is not None else None,
        int(kept[worst[0]]),
        int(worst[1]),
        _histogram(difference),
        int((difference == 0).sum()),
    )


def top_indices(values: Array, k: int = TOP_K) -> Array:
    """(N, k) indices of the greatest of each row, in order; of equal ones the lower first."""
    return np.argsort(-values, axis=1, kind="stable")[:, :k]


def top_overlap(value: Array, reference: Array, k: int = TOP_K) -> Array:
    """(N,) share of the k greatest of each row that both have."""
    return in_common(top_indices(value, k), top_indices(reference, k))


def in_common(ours: Array, theirs: Array) -> Array:
    """(N,) share of the indices (N, k) of each row that both have; an index stands in a row once."""
    shares: Array = (ours[:, :, None] == theirs[:, None, :]).any(axis=2).mean(axis=1)
    return shares


def spearman(value: Array, reference: Array) -> Array:
    """(N,) Spearman's rho of each row: Pearson's correlation of the ranks, ties get their mean rank.

    1 where the ranks are equal, also those of constant rows; 0 where one row alone is constant.
    """
    from scipy.stats import rankdata  # a second and a half, and only what is ranked needs it

    a, b = rankdata(value, axis=1), rankdata(reference, axis=1)
    equal = (a == b).all(axis=1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    rho = (a * b).sum(axis=1) / np.where(norm > 0, norm, 1.0)
    return np.where(equal, 1.0, rho)


def _cosines(value: Array, reference: Array) -> Array:
    norms = np.linalg.norm(value, axis=1) * np.linalg.norm(reference, axis=1)
    both_zero = ~value.any(axis=1) & ~reference.any(axis=1)
    cosine = (value * reference).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return np.where(both_zero, 1.0, np.minimum(cosine, 1.0))


def _relative(difference: Array, reference: Array) -> Array:
    norm = np.linalg.norm(reference, axis=1)
    error = np.linalg.norm(difference, axis=1)
    return np.where(error == 0, 0.0, error / np.where(norm > 0, norm, 1.0))


def _psnr(difference: Array, reference: Array) -> float | None:
    rms = float(np.sqrt((difference**2).mean()))
    span = float(reference.max() - reference.min())
    return 20 * float(np.log10(span / rms)) if rms > 0 and span > 0 else None


def _histogram(difference: Array) -> tuple[int, ...]:
    logs = np.log10(difference[difference > 0])
    counts, _ = np.histogram(np.clip(logs, HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1]), HISTOGRAM_EDGES)
    return tuple(counts.tolist())
