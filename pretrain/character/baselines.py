"""What must be beaten: the commonest label, a linear model, boosted trees."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pretrain.character.records import Examples

BaselineName = Literal["majority", "linear", "boosting"]
BASELINE_NAMES: Final = get_args(BaselineName)

LINEAR_C: Final = 0.01
"""Inverse strength of the logistic regression's penalty; the best of 0.001, 0.01, 0.1."""
BOOSTING_ROUNDS: Final = 100

Rows = NDArray[np.float64]


def predict_baseline(name: BaselineName, train: Examples, features: NDArray[np.float32], seed: int) -> Rows:
    """Fit a baseline on drawn labels, output by output, and predict.

    Args:
        name: `majority`: frequencies and means. `linear`: logistic and ridge regression on standardised
            features. `boosting`: histogram-based gradient boosting, stopped early.
        features: (n, 453) of the examples to predict.

    Returns:
        (n, 42 or 49): probabilities of classes and logits, and what is real as it is.
    """
    schema = train.schema
    predicted = np.zeros((len(features), schema.size))
    deviation = train.features.std(axis=0)
    mean, scale = train.features.mean(axis=0), np.where(deviation > 0, deviation, 1)
    inputs = [(x - mean) / scale if name == "linear" else x for x in (train.features, features)]
    for output in schema.of_kind("class", "binary", "real"):
        place = schema.places[output.key]
        labels = train.labels[:, place]
        if name == "majority":
            predicted[:, place] = labels.mean(axis=0)
        elif output.kind == "class":
            predicted[:, place] = _classes(_classifier(name, seed), inputs[0], labels, inputs[1])
        else:
            for column in range(output.size):
                fit = _one_logit if output.kind == "binary" else _one_number
                own = labels[:, column]
                predicted[:, place.start + column] = fit(name, inputs[0], own, inputs[1], seed)
    return predicted


def _classifier(name: BaselineName, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    if name == "linear":
        return LogisticRegression(C=LINEAR_C, max_iter=300)
    return HistGradientBoostingClassifier(max_iter=BOOSTING_ROUNDS, early_stopping=True, random_state=seed)


def _classes(
    model: Any, features: NDArray[np.float32], labels: NDArray[np.float32], wanted: NDArray[np.float32]
) -> Rows:
    """Probabilities of all classes; those that the labels do not have get none."""
    found = np.zeros((len(wanted), labels.shape[1]))
    index = labels.argmax(axis=1)
    if len(np.unique(index)) == 1:
        found[:, index[0]] = 1
        return found
    _quietly(model.fit, features, index)
    found[:, model.classes_] = model.predict_proba(wanted)
    return found


def _one_logit(
    name: BaselineName,
    features: NDArray[np.float32],
    labels: NDArray[np.float32],
    wanted: NDArray[np.float32],
    seed: int,
) -> Rows:
    both = np.stack([1 - labels, labels], axis=1)
    return _classes(_classifier(name, seed), features, both, wanted)[:, 1]


def _one_number(
    name: BaselineName,
    features: NDArray[np.float32],
    labels: NDArray[np.float32],
    wanted: NDArray[np.float32],
    seed: int,
) -> Rows:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge

    if np.ptp(labels) == 0:
        return np.full(len(wanted), float(labels[0]))
    model = (
        Ridge(alpha=1 / LINEAR_C)
        if name == "linear"
        else HistGradientBoostingRegressor(max_iter=BOOSTING_ROUNDS, early_stopping=True, random_state=seed)
    )
    _quietly(model.fit, features, labels)
    predicted: Rows = model.predict(wanted)
    return predicted


def _quietly(fit: Callable[..., Any], *data: Any) -> None:
    """A linear model that has not converged after its rounds is a baseline all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(*data)
