"""Conformance of unary and binary ops, activations and casts.

Tolerances: an op that IEEE arithmetic or a copy defines is exact. Transcendental functions of
NumPy, torch and libm are each within a few units of the last place; what is composed of n of them
gets n times as many.
"""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from mil_harness import (
    FINITE,
    SPECIAL,
    Case,
    bools,
    broadcast_pair,
    floats,
    ints,
    number,
    numbers,
    shape,
)
from torch.nn import functional as F


def _unary(low: float = -4, high: float = 4, special: Any = SPECIAL, with_ints: bool = False) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        make = numbers if with_ints else floats
        return {"x": make(draw, shape(draw, 0, 4), low=low, high=high, special=special)}

    return draw


def _with_epsilon(low: float, high: float) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = floats(draw, shape(draw, 0, 4), low, high, special=None)
        return {"x": x, "epsilon": number(draw, 1e-3, 1)}

    return draw


def _cast(targets: list[str]) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        sizes = shape(draw, 0, 3)
        target = draw(st.sampled_from(targets))
        lowest = 0 if target.startswith("uint") else -100
        x = draw(st.sampled_from([floats, ints, bools]))
        if x is bools:
            return {"x": bools(draw, sizes), "dtype": target}
        # Outside of the target's range, the conversion of a float is undefined in C.
        keyword = {"special": None if "int" in target else SPECIAL} if x is floats else {}
        return {"x": x(draw, sizes, low=lowest, high=100, **keyword), "dtype": target}

    return draw


_TORCH_TYPES = {
    "int32": torch.int32,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "bool": torch.bool,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
}


def _clip(draw: Any) -> dict[str, Any]:
    alpha = number(draw, -3, 0)
    x = floats(draw, shape(draw, 0, 4))
    return {"x": x, "alpha": alpha, "beta": alpha + number(draw, 0.5, 3)}


def _threshold(draw: Any) -> dict[str, Any]:
    return {"x": floats(draw, shape(draw, 0, 4)), "alpha": number(draw, -2, 2)}


HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1.0, np.inf, np.nan])
UNARY = [
    Case("abs", _unary(with_ints=True), lambda x: torch.abs(x)),
    Case("acos", _unary(-1.2, 1.2), lambda x: torch.acos(x), ulps=4),
    Case("asin", _unary(-1.2, 1.2), lambda x: torch.asin(x), ulps=4),
    Case("atan", _unary(), lambda x: torch.atan(x), ulps=4),
    Case("atanh", _unary(-1.2, 1.2), lambda x: torch.atanh(x), ulps=4),
    Case("ceil", _unary(special=HALVES), lambda x: torch.ceil(x)),
    Case("clip", _clip, lambda x, alpha, beta: torch.clamp(x, alpha, beta)),
    Case("clip", _clip, lambda x, alpha, beta: torch.clamp(x, alpha, beta), opset="iOS17"),
    Case("cos", _unary(special=FINITE), lambda x: torch.cos(x), ulps=4, atol=1e-7),
    Case("cosh", _unary(), lambda x: torch.cosh(x), ulps=4),
    # The rational approximation is good to 5e-7 everywhere (see personality_common/erf.py), but for
    # denormal numbers.
    Case("erf", _unary(), lambda x: torch.erf(x), ulps=6, atol=1e-43),
    Case("exp", _unary(), lambda x: torch.exp(x), ulps=4),
    Case("exp2", _unary(), lambda x: torch.exp2(x), ulps=4),
    Case("floor", _unary(special=HALVES), lambda x: torch.floor(x)),
    Case("inverse", _with_epsilon(0.1, 9), lambda x, epsilon: 1 / (x + epsilon), ulps=2, apple_ulps=4),
    Case(
        "log",
        _with_epsilon(0.1, 9),
        lambda x, epsilon: torch.log(x + epsilon),
        ulps=4,
        atol=1e-7,
        apple_ulps=4,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools adds epsilon in float16, near log(1) that shows",
    ),
    Case("logical_not", lambda draw: {"x": bools(draw, shape(draw, 0, 4))}, lambda x: ~x),
    Case("round", _unary(special=HALVES), lambda x: torch.round(x)),
    Case("rsqrt", _with_epsilon(0.1, 9), lambda x, epsilon: torch.rsqrt(x + epsilon), ulps=4),
    Case(
        "sign",
        _unary(with_ints=True),
        lambda x: torch.sign(x),
        torch_if=lambda a: not np.isnan(a["x"]).any(),
        note="sign(NaN) is NaN in coremltools and 0 in torch; Apple's wins",
    ),
    Case("sin", _unary(special=FINITE), lambda x: torch.sin(x), ulps=4, atol=1e-7),
    Case("sinh", _unary(), lambda x: torch.sinh(x), ulps=4),
    Case("sqrt", _unary(-1, 9), lambda x: torch.sqrt(x), ulps=1),
    Case("square", _unary(with_ints=True), lambda x: torch.square(x)),
    Case("tan", _unary(-1.4, 1.4, FINITE), lambda x: torch.tan(x), ulps=8),
    Case("tanh", _unary(), lambda x: torch.tanh(x), ulps=4),
    Case("threshold", _threshold, lambda x, alpha: torch.clamp(x, min=alpha)),
    Case("cast", _cast(["int32", "fp16", "fp32", "bool"]), lambda x, dtype: x.to(_TORCH_TYPES[dtype])),
    Case("cast", _cast(list(_TORCH_TYPES)), lambda x, dtype: x.to(_TORCH_TYPES[dtype]), opset="iOS17"),
]


def _binary(
    special: Any = SPECIAL, low: float = -4, high: float = 4, with_ints: bool = True, nonzero: bool = False
) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        first, second = broadcast_pair(draw)
        if with_ints and draw(st.integers(0, 3)) == 0:
            x, y = ints(draw, first), ints(draw, second)
            return {"x": x, "y": np.where(y == 0, 3, y).astype(np.int32) if nonzero else y}
        x = floats(draw, first, low, high, special)
        return {"x": x, "y": floats(draw, second, low, high, special, dtype=x.dtype)}

    return draw


def _equal_often(draw: Any) -> dict[str, Any]:
    first, second = broadcast_pair(draw)
    x = ints(draw, first, -2, 2)
    y = ints(draw, second, -2, 2)
    if draw(st.booleans()):
        return {"x": x, "y": y}
    return {"x": np.where(x == 2, np.nan, x).astype(np.float32), "y": y.astype(np.float32)}


def _logical(draw: Any) -> dict[str, Any]:
    first, second = broadcast_pair(draw)
    return {"x": bools(draw, first), "y": bools(draw, second)}


def _select(draw: Any) -> dict[str, Any]:
    first, second = broadcast_pair(draw)
    cond = bools(draw, np.broadcast_shapes(first, second))
    a = floats(draw, first)
    return {"cond": cond, "a": a, "b": floats(draw, second, dtype=a.dtype)}


BINARY = [
    Case("add", _binary(), lambda x, y: x + y),
    Case("sub", _binary(), lambda x, y: x - y),
    Case("mul", _binary(), lambda x, y: x * y),
    Case("real_div", _binary(with_ints=False), lambda x, y: x / y, ulps=1),
    Case(
        "floor_div",
        _binary(special=None, nonzero=True, low=0.1),
        lambda x, y: torch.floor_divide(x, y),
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools divides float16 in float16, where a quotient rounds up to an integer",
    ),
    Case(
        "mod",
        _binary(special=None, nonzero=True, low=0.1),
        lambda x, y: torch.remainder(x, y),
        ulps=1,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="as floor_div",
    ),
    Case("pow", _binary(special=None, low=0.1, with_ints=False), lambda x, y: torch.pow(x, y), ulps=4),
    Case("maximum", _binary(), lambda x, y: torch.maximum(x, y)),
    Case("minimum", _binary(), lambda x, y: torch.minimum(x, y)),
    Case("equal", _equal_often, lambda x, y: x == y),
    Case("not_equal", _equal_often, lambda x, y: x != y),
    Case("less", _equal_often, lambda x, y: x < y),
    Case("less_equal", _equal_often, lambda x, y: x <= y),
    Case("greater", _equal_often, lambda x, y: x > y),
    Case("greater_equal", _equal_often, lambda x, y: x >= y),
    Case("logical_and", _logical, lambda x, y: x & y),
    Case("logical_or", _logical, lambda x, y: x | y),
    Case("logical_xor", _logical, lambda x, y: x ^ y),
    Case("select", _select, lambda cond, a, b: torch.where(cond, a, b)),
]


def _activation(
    *,
    alpha: tuple[float, float] | None = None,
    beta: tuple[float, float] | None = None,
    special: Any = SPECIAL,
    low: float = -6,
    high: float = 6,
) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"x": floats(draw, shape(draw, 0, 4), low, high, special)}
        if alpha is not None:
            arguments["alpha"] = number(draw, *alpha)
        if beta is not None:
            arguments["beta"] = number(draw, *beta)
        return arguments

    return draw


def _gelu(draw: Any) -> dict[str, Any]:
    modes = ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION", None]
    return {"x": floats(draw, shape(draw, 0, 4), -6, 6, FINITE), "mode": draw(st.sampled_from(modes))}


def _torch_gelu(x: Any, mode: str = "EXACT") -> Any:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _per_channel(*names: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        # Rank 4: coremltools wants all slopes equal at other ranks.
        x = floats(draw, shape(draw, 4, 4), -6, 6, FINITE)
        vectors = {name: floats(draw, x.shape[1:2], 0.1, 2, None, x.dtype) for name in names}
        return {"x": x, **vectors}

    return draw


def _softmax(draw: Any) -> dict[str, Any]:
    x = floats(draw, shape(draw, 1, 4), -20, 20, np.array([-np.inf, 0.0, 1e-40]))
    return {"x": x, "axis": draw(st.sampled_from([None, draw(st.integers(-x.ndim, x.ndim - 1))]))}


def _channel(vector: Any, x: Any) -> Any:
    return vector.reshape(1, -1, *([1] * (x.ndim - 2)))


# Apple evaluates float16 in float16: two or three roundings instead of one.
ACTIVATION = [
    Case(
        "clamped_relu",
        _activation(alpha=(-2, 2), beta=(0, 3), special=FINITE),
        lambda x, alpha, beta: torch.clamp(torch.where(x >= 0, x, alpha * x), max=beta),
        note="for beta < 0 coremltools' evaluation adds both branches, against its documentation; not drawn",
    ),
    Case(
        "elu",
        _activation(alpha=(0.1, 2)),
        lambda x, alpha: F.elu(x, alpha),
        ulps=4,
        atol=3e-7,
        apple_ulps=8,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools takes exp(x) - 1 in float16",
    ),
    Case(
        "gelu",
        _gelu,
        _torch_gelu,
        ulps=8,
        atol=2e-6,
        apple_ulps=8,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="1 + erf cancels, in float16 visibly",
    ),
    Case("leaky_relu", _activation(alpha=(-2, 2)), lambda x, alpha: F.leaky_relu(x, alpha)),
    Case(
        "linear_activation",
        _activation(alpha=(-2, 2), beta=(-2, 2), special=FINITE),
        lambda x, alpha, beta: x * alpha + beta,
        ulps=2,
        atol=1e-6,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="two roundings in float16",
    ),
    Case("prelu", _per_channel("alpha"), lambda x, alpha: F.prelu(x, alpha)),
    Case("relu", _activation(), lambda x: F.relu(x)),
    Case("relu6", _activation(), lambda x: F.relu6(x)),
    Case(
        "scaled_tanh",
        _activation(alpha=(-2, 2), beta=(-2, 2), special=FINITE),
        lambda x, alpha, beta: alpha * torch.tanh(x * beta),
        ulps=4,
        apple_ulps=8,
    ),
    Case("sigmoid", _activation(), lambda x: torch.sigmoid(x), ulps=4),
    Case(
        "sigmoid_hard",
        _activation(alpha=(0.1, 1), beta=(0, 1)),
        lambda x, alpha, beta: torch.clamp(x * alpha + beta, 0, 1),
        ulps=2,
        atol=1e-6,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="two roundings in float16",
    ),
    Case("silu", _activation(special=FINITE), lambda x: F.silu(x), ulps=4, apple=False),
    Case(
        "softplus",
        _activation(),
        lambda x: F.softplus(x, threshold=80),
        ulps=4,
        apple_ulps=8,
        atol=1e-6,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools takes log(1 + exp) in float16",
    ),
    Case(
        "softplus_parametric",
        _per_channel("alpha", "beta"),
        lambda x, alpha, beta: _channel(alpha, x) * F.softplus(x * _channel(beta, x), threshold=80),
        ulps=8,
        atol=1e-6,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools takes log(1 + exp) without care for large x, so x stays small; float16 as softplus",
    ),
    Case("softsign", _activation(special=FINITE), lambda x: F.softsign(x), ulps=2, apple_ulps=4),
    Case("thresholded_relu", _activation(alpha=(-1, 2)), lambda x, alpha: torch.where(x < alpha, 0, x)),
    Case(
        "softmax",
        _softmax,
        lambda x, axis=-1: torch.softmax(x, axis),
        ulps=16,
        atol=1e-7,
        apple_ulps=8,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools exponentiates and sums in float16",
    ),
]

CASES = UNARY + BINARY + ACTIVATION
