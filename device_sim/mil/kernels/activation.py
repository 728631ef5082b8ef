"""Activations. Source: coremltools, mil/ops/defs/iOS15/activation.py."""

from __future__ import annotations

import functools
import math

import numpy as np

from device_sim.mil.kernels._sizes import along_channel, axis_in
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.rounding import looked_up, on_half_grid, table
from device_sim.mil.types import Array
from personality_common import erf as _erf


@op("clamped_relu")
def clamped_relu(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.where(x >= 0, x, x * alpha), beta)


@op("elu")
def elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@functools.cache
def _gelu_of_halves() -> Array:
    return table(_erf.gelu)


def _half_gelu(x: Array, mode: str = "EXACT") -> Array:
    """Looked up, as it is one of 63,488 numbers: a fifth of the time that the polynomials take."""
    return looked_up(_gelu_of_halves(), x) if mode == "EXACT" else on_half_grid(gelu(x, mode), own=True)


@op("gelu", of_halves=_half_gelu)
def gelu(x: Array, mode: str = "EXACT") -> Array:
    if mode == "EXACT":
        return _erf.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(1.702 * x)
    raise ValueError(f"mode must be EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION, got {mode!r}")


@op("leaky_relu")
def leaky_relu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, x * alpha)


@op("linear_activation")
def linear_activation(x: Array, alpha: float, beta: float) -> Array:
    return x * alpha + beta


@op("prelu")
def prelu(x: Array, alpha: Array) -> Array:
    return np.where(x > 0, x, x * along_channel(alpha, x, "alpha"))


@op("relu")
def relu(x: Array) -> Array:
    return np.maximum(x, 0)


@op("relu6")
def relu6(x: Array) -> Array:
    return np.minimum(np.maximum(x, 0), 6)


@op("scaled_tanh")
def scaled_tanh(x: Array, alpha: float, beta: float) -> Array:
    return alpha * np.tanh(x * beta)


@op("sigmoid")
def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@op("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.maximum(x * alpha + beta, 0), 1)


@op("silu")
def silu(x: Array) -> Array:
    return x * sigmoid(x)


@op("softplus")
def softplus(x: Array) -> Array:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


@op("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    return along_channel(alpha, x, "alpha") * softplus(x * along_channel(beta, x, "beta"))


@op("softsign")
def softsign(x: Array) -> Array:
    return np.asarray(x / (1 + np.abs(x)))


@op("thresholded_relu")
def thresholded_relu(x: Array, alpha: float) -> Array:
    return np.where(x < alpha, 0, x)


@op("softmax")
def softmax(x: Array, axis: int = -1, *, acc: Accumulator) -> Array:
    axis = axis_in(axis, x.ndim)
    result: Array = np.exp(x - np.max(x, axis=axis, keepdims=True))
    result /= acc.sum(result, (axis,), True)
    return result
