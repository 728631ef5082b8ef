"""Ops that make arrays: filling, repeating, padding, masks.

Source: coremltools, mil/ops/defs/iOS15/tensor_operation.py, iOS16/tensor_operation.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, Number, prod


@op("band_part")
def band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    """Zeros outside of a band around the diagonal of the last two axes; negative: no bound."""
    below = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
    inside = ((lower < 0) | (below <= lower)) & ((upper < 0) | (-below <= upper))
    return np.where(inside, x, np.zeros((), x.dtype))


def _fill_size(shape: Ints, value: Number = 0.0) -> int:
    if min(shape, default=0) < 0:
        raise ValueError(f"shape must not be negative, got {list(shape)}")
    return prod(shape)


@op("fill", size=_fill_size)
def fill(shape: Ints, value: Number = 0.0) -> Array:
    return np.full(shape, value)


@op("fill_like", "iOS16")
def fill_like(ref_tensor: Array, value: Number = 0.0) -> Array:
    return np.full(ref_tensor.shape, value)


@op("non_zero", size=lambda x: x.size * max(x.ndim, 1))
def non_zero(x: Array) -> Array:
    """(count, rank) indices of what is not zero."""
    return np.argwhere(x)


def _one_hot_size(
    indices: Array, one_hot_vector_size: int, axis: int = -1, on_value: Number = 1, off_value: Number = 0
) -> int:
    if one_hot_vector_size < 0:
        raise ValueError(f"one_hot_vector_size must not be negative, got {one_hot_vector_size}")
    return max(indices.size, 1) * one_hot_vector_size


@op("one_hot", size=_one_hot_size)
def one_hot(
    indices: Array, one_hot_vector_size: int, axis: int = -1, on_value: Number = 1, off_value: Number = 0
) -> Array:
    """An index out of range gives a vector of `off_value`."""
    axis = axis_in(axis, indices.ndim + 1)
    positions = np.arange(one_hot_vector_size).reshape(-1, *([1] * (indices.ndim - axis)))
    return np.where(np.expand_dims(indices, axis) == positions, on_value, off_value)


_PAD_MODES: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _pad_widths(x: Array, pad: Ints) -> list[tuple[int, int]]:
    """Before and after, for every axis; `pad` is about the last ones."""
    if len(pad) % 2 or len(pad) > 2 * x.ndim or min(pad, default=0) < 0:
        raise ValueError(f"pad must be up to {x.ndim} pairs that are not negative, got {list(pad)}")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs


def _pad_size(x: Array, pad: Ints, mode: str = "constant", constant_val: Number = 0.0) -> int:
    widths = _pad_widths(x, pad)
    if mode == "reflect" and any(max(w) >= max(size, 1) for w, size in zip(widths, x.shape, strict=True)):
        raise ValueError(f"reflection needs more than {list(pad)} elements, x is {list(x.shape)}")
    return prod([size + sum(w) for size, w in zip(x.shape, widths, strict=True)])


@op("pad", size=_pad_size)
def pad(x: Array, pad: Ints, mode: str = "constant", constant_val: Number = 0.0) -> Array:
    if mode not in _PAD_MODES:
        raise ValueError(f"mode must be one of {', '.join(_PAD_MODES)}, got {mode!r}")
    widths = _pad_widths(x, pad)
    if mode == "constant":
        return np.pad(x, widths, constant_values=constant_val)
    return np.pad(x, widths, _PAD_MODES[mode])


def _range_size(end: Number, start: Number, step: Number) -> int:
    if step == 0 or not all(map(math.isfinite, (end, start, step))):
        raise ValueError(f"start {start}, end {end} and step {step} must be finite, step not 0")
    return max(0, math.ceil((end - start) / step))


@op("range_1d", size=_range_size)
def range_1d(end: Number, start: Number, step: Number) -> Array:
    return np.arange(_range_size(end, start, step)) * step + start


def _tile_size(x: Array, reps: Ints) -> int:
    if len(reps) != x.ndim or min(reps, default=1) < 1:
        raise ValueError(f"reps must be {x.ndim} positive numbers, got {list(reps)}")
    return x.size * prod(reps)


@op("tile", size=_tile_size)
def tile(x: Array, reps: Ints) -> Array:
    return np.tile(x, reps)
