"""Normalizations. Source: coremltools, mil/ops/defs/iOS15/normalization.py."""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import along_channel, axes_in
from device_sim.mil.kernels._windows import Windows
from device_sim.mil.kernels.pooling import sum_in
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints


@op("batch_norm")
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """With the given statistics; x (N, C, …), the others (C,)."""
    scale = 1 / np.sqrt(along_channel(variance, x, "variance") + epsilon)
    if gamma is not None:
        scale = scale * along_channel(gamma, x, "gamma")
    result = (x - along_channel(mean, x, "mean")) * scale
    if beta is not None:
        result += along_channel(beta, x, "beta")
    return result


@op("instance_norm")
def instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
    *,
    acc: Accumulator,
) -> Array:
    """Over the axes from 2 on; x (N, C, …), gamma and beta (C,)."""
    result = _standardize(x, tuple(range(2, x.ndim)), epsilon, acc)
    if gamma is not None:
        result *= along_channel(gamma, x, "gamma")
    if beta is not None:
        result += along_channel(beta, x, "beta")
    return result


@op("l2_norm")
def l2_norm(x: Array, epsilon: float = 1e-6, *, acc: Accumulator) -> Array:
    """Divide by the L2 norm over the last three axes."""
    if x.ndim < 3:
        raise ValueError(f"x must have rank 3 or more, got {list(x.shape)}")
    squares = acc.sum(np.square(x), tuple(range(x.ndim - 3, x.ndim)), True)
    return x / np.sqrt(squares + epsilon)


def _neighbours_work(x: Array, size: int, **_: object) -> int:
    return 16 * x.size * max(size, 1)


@op(
    "local_response_norm",
    size=lambda x, size, **_: 2 * x.size + size * x.size // max(x.shape[1], 1),
    work=_neighbours_work,
)
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, acc: Accumulator
) -> Array:
    """Divide by (k + alpha / size * sum of squares of `size` neighbouring channels) ** beta; x (N, C, …)."""
    if x.ndim < 3 or size < 1:
        raise ValueError(f"x{list(x.shape)} must have rank 3 or more, and size be positive, got {size}")
    flat = np.square(x).reshape(*x.shape[:2], 1, -1)
    around = Windows(
        (size, 1),
        (1, 1),
        (1, 1),
        ((size // 2, (size - 1) // 2), (0, 0)),
        (x.shape[1], flat.shape[3]),
        (x.shape[1], flat.shape[3]),
    )
    total = sum_in(flat.swapaxes(1, 2), around, acc=acc).swapaxes(1, 2).reshape(x.shape)
    return x / (k + alpha / size * total) ** beta


@op("layer_norm")
def layer_norm(
    x: Array,
    axes: Ints | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
    *,
    acc: Accumulator,
) -> Array:
    """gamma and beta have the shape of x along `axes`."""
    over = axes_in(axes, x.ndim)
    result = _standardize(x, over, epsilon, acc)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    normalized = tuple(x.shape[axis] for axis in over)
    for name, vector in (("gamma", gamma), ("beta", beta)):
        if vector is not None and vector.shape != normalized:
            raise ValueError(f"{name} must have shape {list(normalized)}, got {list(vector.shape)}")
    if gamma is not None:
        result *= gamma.reshape(shape)
    if beta is not None:
        result += beta.reshape(shape)
    return result


def _standardize(x: Array, axes: Ints, epsilon: float, acc: Accumulator) -> Array:
    """Mean 0 and variance 1 over `axes`; a new array."""
    result = x - acc.mean(x, axes, True)
    variance = acc.mean(np.square(result), axes, True)
    result /= np.sqrt(variance + epsilon)
    return result
