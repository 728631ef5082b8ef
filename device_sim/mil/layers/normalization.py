"""Normalizations, scales and biases by channel."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import normalization
from device_sim.mil.kernels._sizes import broadcast
from device_sim.mil.layers.activation import along_channel
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import CHANNEL, Build, Layer, rank_at_least, shape_of
from device_sim.mil.layers.weights import Weights
from device_sim.mil.numerics import Accumulator
from device_sim.mil.types import Array, Ints
from personality_common.errors import DataError


def _standardize(x: Array, axes: Ints, epsilon: float | None, acc: Accumulator) -> Array:
    """Mean 0 over `axes`, and variance 1 unless epsilon is None."""
    centred = x - acc.mean(x, axes, True)
    if epsilon is None:
        return centred
    return np.asarray(centred / np.sqrt(acc.mean(np.square(centred), axes, True) + epsilon))


def _batchnorm(p: Any, weights: Weights) -> Layer:
    channels, epsilon, acc = (int(p.channels),), value(p, "epsilon"), weights.policy.accumulator
    gamma, beta = weights.read(p.gamma, channels, "gamma"), weights.read(p.beta, channels, "beta")
    if not p.computeMeanVar:
        if p.instanceNormalization:
            raise DataError("instanceNormalization needs computeMeanVar")
        scale = gamma / np.sqrt(weights.read(p.variance, channels, "variance") + epsilon)
        mean = weights.read(p.mean, channels, "mean")
        return Layer(
            lambda x: (x - along_channel(mean, x)) * along_channel(scale, x) + along_channel(beta, x)
        )

    def run(x: Array) -> Array:
        rank = rank_at_least(x, 3).ndim
        spatial = (rank - 2, rank - 1)
        axes = spatial if p.instanceNormalization else (*range(rank - 3), *spatial)
        normal = _standardize(x, axes, epsilon, acc)
        return normal * along_channel(gamma, x) + along_channel(beta, x)

    return Layer(run)


def _mvn(p: Any, weights: Weights) -> Layer:
    epsilon = value(p, "epsilon") if p.normalizeVariance else None

    def run(x: Array) -> Array:
        rank = rank_at_least(x, 3).ndim
        axes = tuple(range(rank - (3 if p.acrossChannels else 2), rank))
        return _standardize(x, axes, epsilon, weights.policy.accumulator)

    return Layer(run)


def _l2_normalize(p: Any, weights: Weights) -> Layer:
    epsilon = value(p, "epsilon")
    return Layer(lambda x: normalization.l2_norm(x, epsilon, acc=weights.policy.accumulator))


def _lrn(p: Any, weights: Weights) -> Layer:
    k, width = value(p, "k"), int(p.localSize)
    if width < 1 or k <= 0:
        raise DataError(f"localSize and k must be positive, got {width} and {k:g}")

    def run(x: Array) -> Array:
        """The window starts (localSize - 1) // 2 channels before; sums are differences of running sums."""
        channels = rank_at_least(x, 3).shape[CHANNEL]
        squares = np.moveaxis(np.square(x), CHANNEL, 0)
        before = (width - 1) // 2
        total = np.empty_like(squares)
        for channel in range(channels):
            low, high = max(0, channel - before), min(channels, channel - before + width)
            total[channel] = squares[low:high].sum(axis=0)
        return np.asarray(x / np.power(k + p.alpha / width * np.moveaxis(total, 0, CHANNEL), p.beta))

    def work(x: Array) -> int:
        return 16 * x.size * min(width, x.shape[CHANNEL] if x.ndim >= 3 else 1)

    return Layer(run, work=work)


def _layer_normalization(p: Any, weights: Weights) -> Layer:
    shape = shape_of(p.normalizedShape)
    gamma, beta = weights.read(p.gamma, shape, "gamma"), weights.read(p.beta, shape, "beta")
    axes = tuple(range(-len(shape), 0))
    return Layer(
        lambda x: normalization.layer_norm(x, axes, gamma, beta, p.eps, acc=weights.policy.accumulator)
    )


def _spread(p: Any, field: str, shape: Any, weights: Weights) -> Array:
    """A scale or bias of shape [1], [C], [1, H, W] or [C, H, W], to broadcast from the last axis."""
    sizes = shape_of(shape)
    if len(sizes) not in (1, 3):
        raise DataError(f"the shape of {field} must have 1 or 3 sizes, got {list(sizes)}")
    found = weights.read(getattr(p, field), sizes, field)
    return found.reshape(-1, 1, 1) if len(sizes) == 1 else found


def _scale(p: Any, weights: Weights) -> Layer:
    scale = _spread(p, "scale", p.shapeScale, weights)
    bias = _spread(p, "bias", p.shapeBias, weights) if p.hasBias else None

    def run(x: Array, scale: Array, bias: Array | None = None) -> Array:
        return rank_at_least(x, 3) * scale + (0 if bias is None else bias)

    return Layer(run, {"scale": scale} | ({} if bias is None else {"bias": bias}), size=broadcast)


def _bias(p: Any, weights: Weights) -> Layer:
    bias = _spread(p, "bias", p.shape, weights)
    return Layer(lambda x, bias: rank_at_least(x, 3) + bias, {"bias": bias}, size=broadcast)


LAYERS: Final[dict[str, Build]] = {
    "batchnorm": _batchnorm,
    "mvn": _mvn,
    "l2normalize": _l2_normalize,
    "lrn": _lrn,
    "layerNormalization": _layer_normalization,
    "scale": _scale,
    "bias": _bias,
}
