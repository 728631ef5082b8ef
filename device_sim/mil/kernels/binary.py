"""Elementwise functions of two arrays, and `select`, with NumPy's broadcasting.

Source: coremltools, mil/ops/defs/iOS15/elementwise_binary.py and control_flow.py.
"""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import broadcast
from device_sim.mil.registry import op
from device_sim.mil.types import Array


@op("add", size=broadcast)
def add(x: Array, y: Array) -> Array:
    return np.add(x, y)


@op("sub", size=broadcast)
def sub(x: Array, y: Array) -> Array:
    return np.subtract(x, y)


@op("mul", size=broadcast)
def mul(x: Array, y: Array) -> Array:
    return np.multiply(x, y)


@op("real_div", size=broadcast)
def real_div(x: Array, y: Array) -> Array:
    quotient = np.true_divide(x, y)
    both_ints = x.dtype.kind != "f" and y.dtype.kind != "f"
    # The result has the type of the operands; MIL does not say how integers round.
    return np.trunc(quotient).astype(np.int64) if both_ints else quotient


@op("floor_div", size=broadcast)
def floor_div(x: Array, y: Array) -> Array:
    return np.floor_divide(x, y)


@op("mod", size=broadcast)
def mod(x: Array, y: Array) -> Array:
    return np.mod(x, y)  # the sign of y


@op("pow", size=broadcast)
def pow_(x: Array, y: Array) -> Array:
    return np.power(x, y)


@op("maximum", size=broadcast)
def maximum(x: Array, y: Array) -> Array:
    return np.maximum(x, y)


@op("minimum", size=broadcast)
def minimum(x: Array, y: Array) -> Array:
    return np.minimum(x, y)


@op("equal", size=broadcast)
def equal(x: Array, y: Array) -> Array:
    return np.equal(x, y)


@op("not_equal", size=broadcast)
def not_equal(x: Array, y: Array) -> Array:
    return np.not_equal(x, y)


@op("less", size=broadcast)
def less(x: Array, y: Array) -> Array:
    return np.less(x, y)


@op("less_equal", size=broadcast)
def less_equal(x: Array, y: Array) -> Array:
    return np.less_equal(x, y)


@op("greater", size=broadcast)
def greater(x: Array, y: Array) -> Array:
    return np.greater(x, y)


@op("greater_equal", size=broadcast)
def greater_equal(x: Array, y: Array) -> Array:
    return np.greater_equal(x, y)


@op("logical_and", size=broadcast)
def logical_and(x: Array, y: Array) -> Array:
    return np.logical_and(x, y)


@op("logical_or", size=broadcast)
def logical_or(x: Array, y: Array) -> Array:
    return np.logical_or(x, y)


@op("logical_xor", size=broadcast)
def logical_xor(x: Array, y: Array) -> Array:
    return np.logical_xor(x, y)


@op("select", size=broadcast)
def select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)
