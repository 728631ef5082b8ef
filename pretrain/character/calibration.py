"""Temperatures that make probabilities honest, and how honest they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretrain.character.schema import Schema

BINS: Final = 15
COLDEST: Final = 0.05
HOTTEST: Final = 20.0

Rows = NDArray[np.float64]
Loss = Callable[[Rows, Rows], float]


def fit_temperatures(
    flat: NDArray[np.float32], target: NDArray[np.float32], schema: Schema
) -> dict[str, float]:
    """For each output that is a class or a logit, the temperature with the least cross-entropy.

    Args:
        flat: (n, 42 or 49) raw outputs on examples that did not train.
        target: as `flat`; labels, or their expectation.

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    found = {}
    for output in schema.of_kind("class", "binary"):
        place = schema.places[output.key]
        logits, wanted = flat[:, place].astype(np.float64), target[:, place].astype(np.float64)
        loss = _cross_entropy if output.kind == "class" else _binary_cross_entropy

        def at(log_t: float, loss: Loss = loss, logits: Rows = logits, wanted: Rows = wanted) -> float:
            return loss(logits / math.exp(log_t), wanted)

        bounds = (math.log(COLDEST), math.log(HOTTEST))
        found[output.key] = float(np.exp(minimize_scalar(at, bounds=bounds, method="bounded").x))
    return found


def expected_calibration_error(confidence: Rows, truth: Rows) -> float:
    """Mean over BINS of equal width of |mean confidence - mean truth|, weighted by how many are in a bin.

    Args:
        confidence: (n,) of the class that was taken, 0 to 1.
        truth: (n,) how likely that class is: 0 or 1 where only the label is known.
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, confidence - truth, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def probabilities(flat: NDArray[np.float32], schema: Schema, temperatures: dict[str, float]) -> Rows:
    """(n, size) raw outputs -> softmax of classes, sigmoid of logits, and what is real as it is."""
    found = flat.astype(np.float64)
    for output in schema.of_kind("class", "binary"):
        place = schema.places[output.key]
        logits = found[:, place] / temperatures.get(output.key, 1.0)
        found[:, place] = np.exp(_log_softmax(logits)) if output.kind == "class" else _sigmoid(logits)
    return found


def _log_softmax(logits: Rows) -> Rows:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Rows = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _sigmoid(logits: Rows) -> Rows:
    # Of either sign without overflow.
    small = np.exp(-np.abs(logits))
    p: Rows = np.where(logits >= 0, 1, small) / (1 + small)
    return p


def _cross_entropy(logits: Rows, wanted: Rows) -> float:
    return float(-(wanted * _log_softmax(logits)).sum(axis=1).mean())


def _binary_cross_entropy(logits: Rows, wanted: Rows) -> float:
    return float((np.logaddexp(0, logits) - wanted * logits).mean())
