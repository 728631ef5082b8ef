"""Generalized linear models.

Source: GLMRegressor.proto and GLMClassifier.proto (coremltools, mlmodel/format).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from device_sim.mil.kinds.binding import Bound, Run, chosen, logistic, require_width, row, softmax
from device_sim.mil.limits import Usage
from device_sim.mil.types import Array
from personality_common.errors import DataError

_PROBIT: Final = 1
_ONE_VS_REST: Final = 1


def _probit(z: Array) -> Array:
    from scipy.special import ndtr  # a fifth of a second to import, for what few models have

    found: Array = ndtr(z)
    return found


_LINKS: Final[dict[int, Callable[[Array], Array]]] = {0: lambda x: x, 1: logistic, 2: _probit}
"""`PostEvaluationTransform` of a regressor."""


def _scores(bound: Bound) -> Callable[[Mapping[str, Any]], Array]:
    """weights · x + offset, one for each row of weights."""
    weights = bound.matrix(bound.proto.weights, "value", "weights")
    offset = bound.held(bound.proto.offset, "offset")
    if not len(weights) or len(offset) != len(weights):
        raise DataError(f"weights has {len(weights)} rows, offset {len(offset)} values; as many, one or more")

    def scores(values: Mapping[str, Any]) -> Array:
        x = row(bound.inputs, values)
        require_width(x, weights.shape[1], "weights")
        return np.asarray(weights @ x + offset)

    return scores


def glm_regressor(bound: Bound) -> Run:
    """One number for each row of weights."""
    scores, link = _scores(bound), _LINKS.get(bound.proto.postEvaluationTransform)
    output = bound.one(bound.outputs, "output")
    if link is None:
        raise DataError("postEvaluationTransform is not one that the format has")
    return lambda values, _: {output.name: link(scores(values))}


def glm_classifier(bound: Bound) -> Run:
    """A class, and probabilities by class.

    With a reference class, that is the first label, with a score of 0 and no weights; the others' scores go
    through a softmax. One against the rest: a logistic of each score, divided by their sum; of two classes,
    one row of weights, the second one's.
    """
    proto, labels, scores = bound.proto, bound.labels(), _scores(bound)
    bound.require_outputs()
    rows = len(proto.weights)
    one_vs_rest = proto.classEncoding == _ONE_VS_REST
    if proto.classEncoding not in (0, 1) or proto.postEvaluationTransform not in (0, 1):
        raise DataError("classEncoding or postEvaluationTransform is not one that the format has")
    binary = len(labels) == 2 and rows == 1
    if not binary and rows != len(labels) - (not one_vs_rest):
        raise DataError(f"{len(labels)} class labels do not go with {rows} rows of weights")
    probit = proto.postEvaluationTransform == _PROBIT
    if probit and not binary:
        raise DataError(f"postEvaluationTransform Probit is for two classes, there are {len(labels)}")

    def run(values: Mapping[str, Any], _: Usage) -> dict[str, Any]:
        z = scores(values)
        if binary:
            second = _probit(z) if probit else logistic(z)
            found = np.concatenate([1 - second, second])
        elif one_vs_rest:
            found = logistic(z)
            found = found / found.sum()
        else:
            found = softmax(np.concatenate([np.zeros(1), z]))
        return bound.classified(*chosen(labels, found))

    return run
