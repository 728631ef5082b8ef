"""How good predictions are, output by output, beside what nobody can do better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretrain.character.calibration import expected_calibration_error, least_calibration_error
from pretrain.character.records import Examples
from pretrain.character.schema import Output, Schema

LEAST_P: Final = 1e-7
"""A probability is taken for no less: a model that is sure and wrong would have an infinite divergence."""

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class OutputQuality:
    """Figures of one output; None where it has none, or where the data do not say what is likely.

    Attributes:
        accuracy: share of labels that are the likeliest class.
        expected_accuracy: the same, from the true probabilities: free of the labels' luck.
        ceiling: the expected accuracy of the truth itself.
        kl: divergence of the predictions from the true probabilities, in nats; a sum over logits.
        ece: expected calibration error of the likeliest class.
        least_ece: the same, on average, of a model that is right about itself: 0 where the true probabilities
            are known, which `ece` is taken from then; else what the labels' luck makes of it.
        error: root of the mean squared difference, of what is real; from the expectation where it is known.
    """

    accuracy: float | None = None
    expected_accuracy: float | None = None
    ceiling: float | None = None
    kl: float | None = None
    ece: float | None = None
    least_ece: float | None = None
    error: float | None = None

    @property
    def share(self) -> float | None:
        """Of the ceiling that is reached."""
        if self.expected_accuracy is None or not self.ceiling:
            return None
        return self.expected_accuracy / self.ceiling


Quality = Mapping[str, OutputQuality]
"""By `head.name` of an output."""


def measure(predicted: Rows, examples: Examples) -> dict[str, OutputQuality]:
    """Figures of every output that is not noise.

    Args:
        predicted: (n, size) probabilities of classes and logits, and what is real as it is.
        examples: n.
    """
    schema, found = examples.schema, {}
    for output in schema.of_kind("class", "binary", "real"):
        place = schema.places[output.key]
        labels = examples.labels[:, place].astype(np.float64)
        expected = None if examples.expected is None else examples.expected[:, place].astype(np.float64)
        found[output.key] = _of_output(output, predicted[:, place], labels, expected)
    return found


def _of_output(output: Output, predicted: Rows, labels: Rows, expected: Rows | None) -> OutputQuality:
    if output.kind == "real":
        truth = labels if expected is None else expected
        return OutputQuality(
            accuracy=_index_accuracy(output, predicted, labels),
            error=float(np.sqrt(np.square(predicted - truth).mean())),
        )
    if output.kind == "binary":
        return _of_binary(predicted, labels, expected)
    rows, taken = np.arange(len(predicted)), predicted.argmax(axis=1)
    hit = labels[rows, taken]
    truth = hit if expected is None else expected[rows, taken]
    known = {} if expected is None else _known(truth, expected.max(axis=1), _divergence(expected, predicted))
    return OutputQuality(
        accuracy=float(hit.mean()), **_calibration(predicted[rows, taken], truth, expected), **known
    )


def _of_binary(predicted: Rows, labels: Rows, expected: Rows | None) -> OutputQuality:
    said = predicted > 0.5
    hit = np.where(said, labels, 1 - labels).ravel()
    known = {}
    truth = hit
    if expected is not None:
        truth = np.where(said, expected, 1 - expected).ravel()
        both = _divergence(expected, predicted) + _divergence(1 - expected, 1 - predicted)
        known = _known(truth, np.maximum(expected, 1 - expected), both)
    confidence = np.where(said, predicted, 1 - predicted).ravel()
    return OutputQuality(accuracy=float(hit.mean()), **_calibration(confidence, truth, expected), **known)


def _calibration(confidence: Rows, truth: Rows, expected: Rows | None) -> dict[str, float]:
    return {
        "ece": expected_calibration_error(confidence, truth),
        "least_ece": 0.0 if expected is not None else least_calibration_error(confidence),
    }


def _known(truth: Rows, best: Rows, divergence: Rows) -> dict[str, float]:
    return {
        "expected_accuracy": float(truth.mean()),
        "ceiling": float(best.mean()),
        "kl": float(divergence.mean()),
    }


def _divergence(expected: Rows, predicted: Rows) -> Rows:
    """(n,) sum of p log(p / q)."""
    ratio = np.log(np.maximum(expected, LEAST_P)) - np.log(np.maximum(predicted, LEAST_P))
    total: Rows = (expected * ratio).sum(axis=1)
    return total


def _index_accuracy(output: Output, predicted: Rows, labels: Rows) -> float | None:
    """Of the one number that stands for an emotion, rounded as it is decoded."""
    if output.key != "thought.dominant":
        return None
    nearest = np.clip(np.floor(predicted + 0.5), output.low, output.high)
    return float((nearest == labels).mean())


def likeliest_is_speak(predicted: Rows, schema: Schema) -> float:
    """Share of rows whose likeliest action is to speak: why actions are drawn, and not the likeliest."""
    place = schema.places["action.type"]
    index = schema.output("action.type").labels.index("Speak")
    return float((predicted[:, place].argmax(axis=1) == index).mean())
