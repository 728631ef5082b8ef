"""What makes probabilities honest, and how honest they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from pretrain.character.schema import Schema

BINS: Final = 15
DRAWS: Final = 20
"""Of labels, for the mean of an error."""
COLDEST: Final = 0.05
HOTTEST: Final = 20.0
KEPT_SHARE: Final = 1e-6
"""Of a probability, added to what labels make of it."""

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


def check_temperatures(temperatures: dict[str, float], schema: Schema, where: str) -> None:
    """Raise DataError unless each class and logit of the schema has a positive temperature."""
    wanted = {output.key for output in schema.of_kind("class", "binary")}
    positive = all(math.isfinite(value) and value > 0 for value in temperatures.values())
    if temperatures.keys() != wanted or not positive:
        raise DataError(f"{where}: must have a positive temperature for each of {', '.join(sorted(wanted))}")


def isotonic(found: Rows, labels: NDArray[np.float32], wanted: Rows, schema: Schema) -> Rows:
    """Probabilities as honest as labels show them to be, each class and logit by a rising step function.

    A temperature cannot mend a slope where the truth is a step: what is too sure on one side of it and too
    unsure on the other has every temperature wrong. This has as many numbers as the labels support, and so
    no place in a contract: it is for what a network is trained on.

    Args:
        found: (m, size) probabilities, and what is real, of examples that did not train.
        labels: (m, size) drawn.
        wanted: (n, size) like `found`, to be mended.

    Returns:
        (n, size); what is real as it was.

    Source: Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates", KDD 2002.
    """
    from sklearn.isotonic import IsotonicRegression

    mended = wanted.copy()
    for output in schema.of_kind("class", "binary"):
        place = schema.places[output.key]
        for column in range(place.start, place.stop):
            fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            mended[:, column] = fit.fit(found[:, column], labels[:, column]).predict(wanted[:, column])
        if output.kind == "class":
            # A row whose classes were all seen in none is as it was.
            mended[:, place] += KEPT_SHARE * wanted[:, place]
            mended[:, place] /= mended[:, place].sum(axis=1, keepdims=True)
    return mended


def expected_calibration_error(confidence: Rows, truth: Rows) -> float:
    """Mean over BINS of equal width of |mean confidence - mean truth|, weighted by how many are in a bin.

    Args:
        confidence: (n,) of the class that was taken, 0 to 1.
        truth: (n,) how likely that class is: 0 or 1 where only the label is known.
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, confidence - truth, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def least_calibration_error(confidence: Rows) -> float:
    """What `expected_calibration_error` is, on average, of a model that is right about itself, where only
    labels are known: in a bin of few labels their share is off by luck.

    Args:
        confidence: (n,) as there.
    """
    rng = np.random.default_rng(0)
    drawn = ((rng.random(len(confidence)) < confidence).astype(np.float64) for _ in range(DRAWS))
    return float(np.mean([expected_calibration_error(confidence, labels) for labels in drawn]))


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
