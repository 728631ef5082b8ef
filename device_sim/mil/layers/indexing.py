"""Gathering, scattering, masks and indices."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from device_sim.mil.layers.layer import Build, Layer, choice, integers, kernel, scalar
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array


def _indexed(op: str, *, axis: bool) -> Build:
    """data, then indices."""

    def build(p: Any, weights: Weights) -> Layer:
        extra = {"axis": p.axis} if axis else {}
        return kernel(weights, op, lambda x, i: {"x": x, "indices": integers(i), **extra}, 2)

    return build


def _scattered(op: str, *, axis: bool) -> Build:
    """A container, indices, updates."""

    def build(p: Any, weights: Weights) -> Layer:
        extra = {"axis": p.axis} if axis else {}
        mode = choice(p, "mode").removeprefix("SCATTER_").lower()
        return kernel(
            weights,
            op,
            lambda data, i, updates: {
                "data": data,
                "indices": integers(i),
                "updates": updates,
                "mode": mode,
                **extra,
            },
            3,
        )

    return build


def _one_hot(p: Any, weights: Weights) -> Layer:
    def arguments(x: Array, count: Array | None = None) -> dict[str, Any]:
        size = int(p.oneHotVectorSize) if count is None else int(integers(np.asarray(scalar(count))))
        return {
            "indices": integers(x),
            "one_hot_vector_size": size,
            "axis": p.axis,
            "on_value": p.onValue,
            "off_value": p.offValue,
        }

    return kernel(weights, "one_hot", arguments, (1, 2))


def _band(p: Any, weights: Weights, lower: int, upper: int) -> Layer:
    """Zeros outside of the diagonals from `-lower` to `upper` of the last two axes."""

    def run(x: Array) -> Array:
        if x.ndim < 2:
            raise ValueError(f"rank 2 or more is expected, got {list(x.shape)}")
        below = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
        return np.where((below <= lower) & (-below <= upper), x, x.dtype.type(0))

    return Layer(run)


_ALL: Final = 1 << 62


def _matrix_band_part(p: Any, weights: Weights) -> Layer:
    """Negative: no bound."""
    lower, upper = (_ALL if bound < 0 else min(bound, _ALL) for bound in (p.numLower, p.numUpper))
    return _band(p, weights, lower, upper)


def _lower_triangular(p: Any, weights: Weights) -> Layer:
    """Up to the k-th diagonal above the main one."""
    return _band(p, weights, _ALL, max(-_ALL, min(p.k, _ALL)))


def _upper_triangular(p: Any, weights: Weights) -> Layer:
    return _band(p, weights, -max(-_ALL, min(p.k, _ALL)), _ALL)


LAYERS: Final[dict[str, Build]] = {
    "gather": _indexed("gather", axis=True),
    "gatherND": _indexed("gather_nd", axis=False),
    "gatherAlongAxis": _indexed("gather_along_axis", axis=True),
    "scatter": _scattered("scatter", axis=True),
    "scatterND": _scattered("scatter_nd", axis=False),
    "scatterAlongAxis": _scattered("scatter_along_axis", axis=True),
    "oneHot": _one_hot,
    "whereNonZero": lambda p, weights: kernel(weights, "non_zero", lambda x: {"x": x}),
    "matrixBandPart": _matrix_band_part,
    "lowerTriangular": _lower_triangular,
    "upperTriangular": _upper_triangular,
}
