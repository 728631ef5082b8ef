"""Elementwise functions of one array. Source: coremltools, mil/ops/defs/iOS15/elementwise_unary.py."""

from __future__ import annotations

from typing import Final

import numpy as np

from device_sim.mil.registry import op
from device_sim.mil.types import Array, Number
from personality_common import erf as _erf


@op("abs")
def abs_(x: Array) -> Array:
    return np.abs(x)


@op("acos")
def acos(x: Array) -> Array:
    return np.arccos(x)


@op("asin")
def asin(x: Array) -> Array:
    return np.arcsin(x)


@op("atan")
def atan(x: Array) -> Array:
    return np.arctan(x)


@op("atanh")
def atanh(x: Array) -> Array:
    return np.arctanh(x)


@op("ceil")
def ceil(x: Array) -> Array:
    return np.ceil(x)


@op("clip")
def clip(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.maximum(x, alpha), beta)


@op("clip", "iOS17")
def clip_17(x: Array, alpha: float, beta: float) -> Array:
    if alpha >= beta:
        raise ValueError(f"alpha must be smaller than beta, got {alpha} and {beta}")
    return clip(x, alpha, beta)


@op("cos")
def cos(x: Array) -> Array:
    return np.cos(x)


@op("cosh")
def cosh(x: Array) -> Array:
    return np.cosh(x)


@op("erf")
def erf(x: Array) -> Array:
    return _erf.erf(x)


@op("exp")
def exp(x: Array) -> Array:
    return np.exp(x)


@op("exp2")
def exp2(x: Array) -> Array:
    if x.dtype.kind == "f":
        return np.exp2(x)
    return np.trunc(np.exp2(x.astype(np.float64))).astype(np.int64)


@op("floor")
def floor(x: Array) -> Array:
    return np.floor(x)


@op("inverse")
def inverse(x: Array, epsilon: float = 1e-4) -> Array:
    return 1.0 / (x + epsilon)


@op("log")
def log(x: Array, epsilon: float = 1e-45) -> Array:
    return np.log(x + epsilon)


@op("logical_not")
def logical_not(x: Array) -> Array:
    return np.logical_not(x)


@op("round")
def round_(x: Array) -> Array:
    return np.round(x)  # halves to even, as Apple's own evaluation does


@op("rsqrt")
def rsqrt(x: Array, epsilon: float = 1e-12) -> Array:
    return 1.0 / np.sqrt(x + epsilon)


@op("sign")
def sign(x: Array) -> Array:
    return np.sign(x)


@op("sin")
def sin(x: Array) -> Array:
    return np.sin(x)


@op("sinh")
def sinh(x: Array) -> Array:
    return np.sinh(x)


@op("sqrt")
def sqrt(x: Array) -> Array:
    return np.sqrt(x)


@op("square")
def square(x: Array) -> Array:
    return np.square(x)


@op("tan")
def tan(x: Array) -> Array:
    return np.tan(x)


@op("tanh")
def tanh(x: Array) -> Array:
    return np.tanh(x)


@op("threshold")
def threshold(x: Array, alpha: Number) -> Array:
    return np.maximum(x, alpha)


_CASTS: Final[dict[str, type[np.generic] | None]] = {
    "int32": np.int32,
    "fp16": None,
    "fp32": None,
    "bool": np.bool_,
}
_CASTS_17: Final[dict[str, type[np.generic] | None]] = {
    **_CASTS,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
}


@op("cast")
def cast(x: Array, dtype: str) -> Array:
    return _cast(x, dtype, _CASTS)


@op("cast", "iOS17")
def cast_17(x: Array, dtype: str) -> Array:
    return _cast(x, dtype, _CASTS_17)


def _cast(x: Array, dtype: str, known: dict[str, type[np.generic] | None]) -> Array:
    if dtype not in known:
        raise ValueError(f"dtype must be one of {', '.join(known)}, got {dtype!r}")
    target = known[dtype]
    if target is not None:
        return x.astype(target)
    # Which of the float types is the evaluator's business; float64 holds every int32 exactly.
    return x if x.dtype.kind == "f" else x.astype(np.float64)
