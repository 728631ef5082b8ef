"""Functions of each element, of one array or of several that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import unary
from device_sim.mil.kernels._sizes import broadcast
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import MANY, Build, Layer, choice, truth
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array


def _one(function: Callable[[Array], Any]) -> Build:
    return lambda p, weights: Layer(function)


def _unary(p: Any, weights: Weights) -> Layer:
    epsilon, scale = value(p, "epsilon"), value(p, "scale")
    functions: dict[str, Callable[[Array], Any]] = {
        "SQRT": np.sqrt,
        "RSQRT": lambda x: 1 / np.sqrt(x + epsilon),
        "INVERSE": lambda x: 1 / (x + epsilon),
        "POWER": lambda x: np.power(x, p.alpha),
        "EXP": np.exp,
        # No epsilon in the format's formula, but coremltools converts MIL's log(x + epsilon) to this.
        "LOG": lambda x: np.log(x + epsilon),
        "ABS": np.abs,
        "THRESHOLD": lambda x: np.maximum(x, p.alpha),
    }
    function = functions[choice(p, "type")]
    return Layer(lambda x: function(x * scale + p.shift))


def _clip(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: unary.clip(x, p.minVal, p.maxVal))


def _fold(function: Callable[[Any, Any], Any]) -> Build:
    """Of all inputs; with one input, of it and `alpha`."""

    def build(p: Any, weights: Weights) -> Layer:
        def run(*arrays: Array) -> Array:
            return reduce(function, arrays) if len(arrays) > 1 else function(arrays[0], p.alpha)

        return Layer(run, size=broadcast, most=MANY)

    return build


def _several(function: Callable[..., Any]) -> Build:
    return lambda p, weights: Layer(
        lambda *arrays: reduce(function, arrays), size=broadcast, fewest=2, most=MANY
    )


def _average(p: Any, weights: Weights) -> Layer:
    def run(*arrays: Array) -> Array:
        total: Array = reduce(np.add, arrays)
        return total / len(arrays)

    return Layer(run, size=broadcast, most=MANY)


def _two(function: Callable[..., Any]) -> Build:
    return lambda p, weights: Layer(function, size=broadcast, fewest=2, most=2)


def _compare(function: Callable[..., Any]) -> Build:
    """Of two inputs; with one input, of it and `alpha`."""

    def build(p: Any, weights: Weights) -> Layer:
        return Layer(lambda x, y=None: function(x, p.alpha if y is None else y), size=broadcast, most=2)

    return build


def _logical(function: Callable[..., Any]) -> Build:
    return _two(lambda x, y: function(truth(x), truth(y)))


def _where(p: Any, weights: Weights) -> Layer:
    return Layer(lambda c, x, y: np.where(truth(c), x, y), size=broadcast, fewest=3, most=3)


LAYERS: Final[dict[str, Build]] = {
    "unary": _unary,
    "clip": _clip,
    "add": _fold(np.add),
    "multiply": _fold(np.multiply),
    "average": _average,
    "max": _several(np.maximum),
    "min": _several(np.minimum),
    "addBroadcastable": _several(np.add),
    "multiplyBroadcastable": _several(np.multiply),
    "maxBroadcastable": _several(np.maximum),
    "minBroadcastable": _several(np.minimum),
    "subtractBroadcastable": _two(np.subtract),
    "divideBroadcastable": _two(np.divide),
    "floorDivBroadcastable": _two(np.floor_divide),
    "modBroadcastable": _two(np.mod),  # the sign of the second
    "powBroadcastable": _two(np.power),
    "equal": _compare(np.equal),
    "notEqual": _compare(np.not_equal),
    "lessThan": _compare(np.less),
    "lessEqual": _compare(np.less_equal),
    "greaterThan": _compare(np.greater),
    "greaterEqual": _compare(np.greater_equal),
    "logicalAnd": _logical(np.logical_and),
    "logicalOr": _logical(np.logical_or),
    "logicalXor": _logical(np.logical_xor),
    "logicalNot": _one(lambda x: np.logical_not(truth(x))),
    "whereBroadcastable": _where,
    "copy": _one(lambda x: x),
    "ceil": _one(np.ceil),
    "floor": _one(np.floor),
    "round": _one(unary.round_),
    "sign": _one(np.sign),
    "exp2": _one(np.exp2),
    "sin": _one(np.sin),
    "cos": _one(np.cos),
    "tan": _one(np.tan),
    "asin": _one(np.arcsin),
    "acos": _one(np.arccos),
    "atan": _one(np.arctan),
    "sinh": _one(np.sinh),
    "cosh": _one(np.cosh),
    "tanh": _one(np.tanh),
    "asinh": _one(np.arcsinh),
    "acosh": _one(np.arccosh),
    "atanh": _one(np.arctanh),
    "erf": _one(unary.erf),
}
