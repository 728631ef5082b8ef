"""Layers that make arrays: constants, filling, broadcasting, ranges, borders, random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels.activation import softmax
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import Build, Layer, kernel, listed, scalar, shape_of, sizes_in
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array, Ints, extent, prod
from personality_common.errors import DataError


def _load_constant(p: Any, weights: Weights) -> Layer:
    found = weights.read(p.data, shape_of(p.shape), "data")
    found = found[None, None] if len(p.shape) == 3 else found
    return Layer(lambda: found, fewest=0, most=0)


def _load_constant_nd(p: Any, weights: Weights) -> Layer:
    found = weights.read(p.data, shape_of(p.shape), "data")
    return Layer(lambda: found, fewest=0, most=0)


def _shaped(make: Callable[[Any, Weights], Callable[[Ints], Array]], where: str, field: str = "") -> Build:
    """An array of a shape: a parameter, that of an input (`like`), or given by one (`dynamic`)."""

    def build(p: Any, weights: Weights) -> Layer:
        fill = make(p, weights)
        if where == "static":
            shape = shape_of(getattr(p, field))
            return Layer(lambda: fill(shape), size=lambda: extent(shape), fewest=0, most=0)
        if where == "like":
            return Layer(lambda x: fill(x.shape))
        return Layer(lambda x: fill(shape_of(sizes_in(x))), size=lambda x: extent(shape_of(sizes_in(x))))

    return build


def _full(p: Any, weights: Weights) -> Callable[[Ints], Array]:
    return lambda shape: np.full(shape, p.value, weights.policy.compute)


def _broadcast(shape: Callable[..., Ints]) -> Layer:
    return Layer(
        lambda x, *like: np.broadcast_to(x, shape(*like)),
        size=lambda x, *like: extent(shape(*like)),
        fewest=2,
        most=2,
    )


def _broadcast_to_static(p: Any, weights: Weights) -> Layer:
    shape = shape_of(p.targetShape)
    return Layer(lambda x: np.broadcast_to(x, shape), size=lambda x: extent(shape))


def _range(end: float | None, start: float, step: float, weights: Weights) -> Layer:
    """Up to an end that does not belong to it; end, start and step may be inputs, in this order."""

    def arguments(*given: Array) -> dict[str, Any]:
        own = (end, start, step)
        names = ("end", "start", "step")
        numbers = [scalar(given[i]) if i < len(given) else own[i] for i in range(3)]
        return dict(zip(names, numbers, strict=True))

    return kernel(weights, "range_1d", arguments, (0, 0) if end is not None else (1, 3))


def _constant_pad(p: Any, weights: Weights) -> Layer:
    """By amounts before and after each axis; or, for `padToGivenOutputSizeMode`, up to sizes."""
    own = listed(p.padAmounts, "padAmounts")

    def arguments(x: Array, given: Array | None = None) -> dict[str, Any]:
        amounts = own if given is None else sizes_in(given)
        if len(amounts) != 2 * x.ndim:
            raise DataError(f"{2 * x.ndim} amounts are expected for {list(x.shape)}, got {len(amounts)}")
        if p.padToGivenOutputSizeMode:
            pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
            if any(before and after for before, after in pairs):
                raise DataError("an axis is padded on one side to a size, not on both")
            amounts = tuple(
                max(0, wanted - size) if wanted else 0
                for size, pair in zip(x.shape, pairs, strict=True)
                for wanted in pair
            )
        return {"x": x, "pad": amounts, "constant_val": p.value}

    return kernel(weights, "pad", arguments, (1, 2))


def _generator(p: Any) -> np.random.Generator:
    """The device's generator is not documented: the distribution is right, and a seed repeats itself."""
    return np.random.default_rng(p.seed % (1 << 64))


def _normal(p: Any, weights: Weights) -> Callable[[Ints], Array]:
    return lambda shape: _generator(p).standard_normal(shape) * p.stdDev + p.mean


def _uniform(p: Any, weights: Weights) -> Callable[[Ints], Array]:
    return lambda shape: _generator(p).random(shape) * (p.maxVal - p.minVal) + p.minVal


def _bernoulli(p: Any, weights: Weights) -> Callable[[Ints], Array]:
    return lambda shape: (_generator(p).random(shape) < p.prob).astype(weights.policy.compute)


def _categorical(p: Any, weights: Weights) -> Layer:
    """Indices drawn with the probabilities, or with the softmax of logits, along the last axis."""
    eps, temperature, count = value(p, "eps"), value(p, "temperature"), int(p.numSamples)
    if count < 1:
        raise DataError(f"numSamples must be positive, got {count}")

    def run(x: Array) -> Array:
        if not x.ndim or not x.shape[-1]:
            raise DataError(f"probabilities along the last axis are expected, got {list(x.shape)}")
        logits = x if p.isLogits else np.log(np.maximum(x, eps))
        chances = softmax(logits / temperature, -1, acc=weights.policy.accumulator).astype(np.float64)
        edges = np.cumsum(chances, axis=-1).reshape(-1, x.shape[-1])
        draws = _generator(p).random((len(edges), count)) * edges[:, -1:]
        found = [np.searchsorted(edge, draw, side="right") for edge, draw in zip(edges, draws, strict=True)]
        drawn: Array = np.minimum(np.array(found), x.shape[-1] - 1)
        return drawn.reshape(*x.shape[:-1], count)

    def size(x: Array) -> int:
        return max(x.size, prod((*x.shape[:-1], count)))

    return Layer(run, size=size)


LAYERS: Final[dict[str, Build]] = {
    "loadConstant": _load_constant,
    "loadConstantND": _load_constant_nd,
    "getShape": lambda p, weights: kernel(weights, "shape", lambda x: {"x": x}),
    "fillLike": _shaped(_full, "like"),
    "fillStatic": _shaped(_full, "static", "targetShape"),
    "fillDynamic": _shaped(_full, "dynamic"),
    "broadcastToLike": lambda p, weights: _broadcast(lambda like: like.shape),
    "broadcastToStatic": _broadcast_to_static,
    "broadcastToDynamic": lambda p, weights: _broadcast(lambda sizes: shape_of(sizes_in(sizes))),
    "rangeStatic": lambda p, weights: _range(p.endValue, p.startValue, p.stepSizeValue, weights),
    "rangeDynamic": lambda p, weights: _range(None, p.startValue, p.stepSizeValue, weights),
    "constantPad": _constant_pad,
    "randomNormalLike": _shaped(_normal, "like"),
    "randomNormalStatic": _shaped(_normal, "static", "outputShape"),
    "randomNormalDynamic": _shaped(_normal, "dynamic"),
    "randomUniformLike": _shaped(_uniform, "like"),
    "randomUniformStatic": _shaped(_uniform, "static", "outputShape"),
    "randomUniformDynamic": _shaped(_uniform, "dynamic"),
    "randomBernoulliLike": _shaped(_bernoulli, "like"),
    "randomBernoulliStatic": _shaped(_bernoulli, "static", "outputShape"),
    "randomBernoulliDynamic": _shaped(_bernoulli, "dynamic"),
    "categoricalDistribution": _categorical,
}
