"""Support vector machines, as LIBSVM has them.

Source: SVM.proto (coremltools, mlmodel/format); Chang and Lin, "LIBSVM: a library for support vector
machines", sections 4.1 and 8; Wu, Lin and Weng, "Probability estimates for multi-class classification by
pairwise coupling".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np

from device_sim.mil.kinds.binding import Bound, Run, chosen, logistic, require_width, row
from device_sim.mil.limits import Usage
from device_sim.mil.types import Array
from personality_common.errors import DataError

_LEAST: Final = 1e-7
"""LIBSVM keeps pairwise probabilities this far from 0 and 1."""
_MOST_CLASSES: Final = 1_000


def _vectors(bound: Bound) -> Array:
    """(vectors, features), the sparse ones filled with zeros."""
    proto = bound.proto
    if proto.WhichOneof("supportVectors") != "sparseSupportVectors":
        return bound.matrix(proto.denseSupportVectors.vectors, "values", "denseSupportVectors")
    vectors = proto.sparseSupportVectors.vectors
    width = max((node.index for vector in vectors for node in vector.nodes), default=0)
    bound.usage.check_value(width * len(vectors), 8, "sparseSupportVectors")
    table = np.zeros((len(vectors), width))
    for at, vector in bound.clocked(vectors):
        for node in vector.nodes:
            if node.index < 1:
                raise DataError(f"sparseSupportVectors: indices begin at 1, got {node.index}")
            table[at, node.index - 1] = node.value
    bound.usage.budget.held += table.nbytes
    return table


def _kernel(bound: Bound) -> Callable[[Mapping[str, Any]], Array]:
    """The kernel of the inputs with each support vector."""
    form, kind = bound.proto.WhichOneof("supportVectors"), bound.proto.kernel.WhichOneof("kernel")
    if form is None:
        raise DataError("supportVectors: none are given")
    if kind is None:
        raise DataError("kernel: none is given")
    vectors, k, sparse = _vectors(bound), getattr(bound.proto.kernel, kind), form == "sparseSupportVectors"

    def kernel(values: Mapping[str, Any]) -> Array:
        x = row(bound.inputs, values)
        if sparse:  # trailing zeros of all vectors are not stored
            known, rest = x[: vectors.shape[1]], x[vectors.shape[1] :]
            known = np.pad(known, (0, vectors.shape[1] - known.size))
        else:
            require_width(x, vectors.shape[1], "denseSupportVectors")
            known, rest = x, x[:0]
        if kind == "rbfKernel":
            distances = ((vectors - known) ** 2).sum(axis=1) + rest @ rest
            return np.asarray(np.exp(-k.gamma * distances))
        products = vectors @ known
        if kind == "polyKernel":
            return np.asarray((k.gamma * products + k.c) ** k.degree)
        if kind == "sigmoidKernel":
            return np.asarray(np.tanh(k.gamma * products + k.c))
        return np.asarray(products)

    return kernel


def support_vector_regressor(bound: Bound) -> Run:
    """The sum of alpha times kernel, less rho."""
    kernel = _kernel(bound)
    alpha = bound.held(bound.proto.coefficients.alpha, "coefficients")
    output = bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], _: Usage) -> dict[str, Any]:
        k = kernel(values)
        if k.size != alpha.size:
            raise DataError(f"coefficients has {alpha.size} values for {k.size} support vectors")
        return {output.name: float(alpha @ k - bound.proto.rho)}

    return run


def support_vector_classifier(bound: Bound) -> Run:
    """A class by the votes of all pairs of classes; with `probA` and `probB`, by coupled probabilities."""
    proto, labels, kernel = bound.proto, bound.labels(), _kernel(bound)
    classes = len(labels)
    if not 2 <= classes <= _MOST_CLASSES:
        raise DataError(f"ClassLabels: 2 to {_MOST_CLASSES:,} classes are expected, got {classes:,}")
    pairs = list(combinations(range(classes), 2))
    counts = list(proto.numberOfSupportVectorsPerClass)
    ends = np.concatenate([[0], np.cumsum(counts)]) if counts else np.zeros(1, int)
    alpha = bound.matrix(proto.coefficients, "alpha", "coefficients")
    rho = bound.held(proto.rho, "rho")
    prob_a, prob_b = bound.held(proto.probA, "probA"), bound.held(proto.probB, "probB")
    if len(counts) != classes or min(counts) < 0 or alpha.shape != (classes - 1, int(ends[-1])):
        raise DataError(
            "numberOfSupportVectorsPerClass must have a count for each class, and coefficients one row less "
            f"than classes; they are {counts[:8]} and {list(alpha.shape)} for {classes} classes"
        )
    if len(rho) != len(pairs) or len(prob_a) != len(prob_b) or len(prob_a) not in (0, len(pairs)):
        raise DataError(
            f"rho, and probA and probB if given, must have {len(pairs)} values, one for each pair"
        )
    # Without them, what Core ML gives for each class is not documented.
    bound.require_outputs(dictionary=bool(len(prob_a)))

    def decide(k: Array) -> Array:
        """Of each pair (i, j); positive for i."""
        found = np.empty(len(pairs))
        for at, (i, j) in enumerate(pairs):
            of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
            found[at] = alpha[j - 1, of_i] @ k[of_i] + alpha[i, of_j] @ k[of_j] - rho[at]
        return found

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        k = kernel(values)
        if k.size != ends[-1]:
            raise DataError(f"numberOfSupportVectorsPerClass counts {ends[-1]}, there are {k.size}")
        usage.spend(16 * len(pairs) * 64 + k.size * classes)
        decisions = decide(k)
        if len(prob_a):
            pairwise = np.clip(logistic(-(prob_a * decisions + prob_b)), _LEAST, 1 - _LEAST)
            return bound.classified(*chosen(labels, _couple(classes, pairs, pairwise, usage)))
        votes = np.bincount(
            [i if d > 0 else j for (i, j), d in zip(pairs, decisions, strict=True)], None, classes
        )
        return bound.classified(labels[int(votes.argmax())], {})

    return run


def _couple(classes: int, pairs: list[tuple[int, int]], pairwise: Array, usage: Usage) -> Array:
    """Probabilities of classes from those of pairs: the second method of Wu, Lin and Weng, as in LIBSVM."""
    if classes == 2:
        return np.array([pairwise[0], 1 - pairwise[0]])
    r = np.zeros((classes, classes))
    for (i, j), p in zip(pairs, pairwise, strict=True):
        r[i, j], r[j, i] = p, 1 - p
    q = -r.T * r
    np.fill_diagonal(q, (r.T**2).sum(axis=1))
    p = np.full(classes, 1 / classes)
    for _ in range(max(100, classes)):
        usage.spend(16 * classes * classes)
        qp = q @ p
        pqp = p @ qp
        if np.abs(qp - pqp).max() < 0.005 / classes:
            break
        for t in range(classes):
            step = (pqp - qp[t]) / q[t, t]
            p[t] += step
            pqp = (pqp + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p
