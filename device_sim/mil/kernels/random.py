"""Random values. Source: coremltools, mil/ops/defs/iOS15/random.py.

With a seed they come from NumPy's generator: of the right distribution, the same each time, but not the
values that a device draws, whose generator is not documented. Without a seed there is nothing to
reproduce, and the op is refused.
"""

from __future__ import annotations

import numpy as np

from device_sim.mil.limits import ITERATION_WORK
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, prod


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise ValueError("it has no seed, so its values cannot be reproduced: give it one to run it here")
    return np.random.default_rng(seed)


def _size(shape: Ints, **_: object) -> int:
    if min(shape, default=0) < 0:
        raise ValueError(f"shape must not be negative, got {list(shape)}")
    return prod(shape)


def _work(shape: Ints, **_: object) -> int:
    return 64 * _size(shape)


@op("random_bernoulli", size=_size, work=_work)
def random_bernoulli(shape: Ints, prob: float = 0.5, seed: int = -1) -> Array:
    return (_generator(seed).random(shape) < prob).astype(np.float32)


@op("random_normal", size=_size, work=_work)
def random_normal(shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> Array:
    return _generator(seed).standard_normal(shape) * stddev + mean


@op("random_uniform", size=_size, work=_work)
def random_uniform(shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Array:
    return _generator(seed).random(shape) * (high - low) + low


def _categorical_size(x: Array, mode: str = "logits", size: int = 1, seed: int = -1) -> int:
    if x.ndim < 1 or not x.shape[-1] or size < 0:
        raise ValueError(f"x{list(x.shape)} must end in probabilities, and size {size} not be negative")
    return max(x.size, prod((*x.shape[:-1], size)))


def _categorical_work(x: Array, mode: str = "logits", size: int = 1, seed: int = -1) -> int:
    classes = x.shape[-1] if x.ndim else 0
    return 64 * prod((*x.shape, max(size, 1))) + int(classes) * ITERATION_WORK


@op("random_categorical", size=_categorical_size, work=_categorical_work)
def random_categorical(x: Array, mode: str = "logits", size: int = 1, seed: int = -1) -> Array:
    """Indices drawn with replacement from each row of x; floats, as MIL declares them."""
    if mode not in ("logits", "probs"):
        raise ValueError(f"mode must be logits or probs, got {mode!r}")
    weights = np.exp(x - x.max(axis=-1, keepdims=True)) if mode == "logits" else x
    total = np.cumsum(weights, axis=-1, dtype=np.float64)
    drawn = _generator(seed).random((*x.shape[:-1], size)) * total[..., -1:]
    result = np.zeros(drawn.shape, x.dtype)
    for i in range(x.shape[-1] - 1):
        result += drawn >= total[..., i : i + 1]
    return result
