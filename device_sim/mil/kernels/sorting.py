"""Sorting and scanning. Source: coremltools, mil/ops/defs/iOS15/tensor_operation.py, iOS16, iOS17."""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.registry import op
from device_sim.mil.types import Array


@op("argsort")
def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Array:
    """Ties in the order of their indices, in both directions."""
    if not ascending:
        x = -x if x.dtype.kind == "f" else -x.astype(np.int64)
    return np.argsort(x, axis=axis_in(axis, x.ndim), kind="stable")


def _topk(x: Array, k: int, axis: int, ascending: bool) -> tuple[Array, Array]:
    axis = axis_in(axis, x.ndim)
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"k must be from 0 to {x.shape[axis]}, got {k}")
    order = argsort(x, axis, ascending)
    index = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, index, axis=axis), index


@op("topk")
def topk(x: Array, k: int = 1, axis: int = -1, ascending: bool = False) -> tuple[Array, Array]:
    return _topk(x, k, axis, ascending)


@op("topk", "iOS16")
def topk_16(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
) -> tuple[Array, ...]:
    """Sorted either way: without `sort`, any order will do."""
    values, indices = _topk(x, k, axis, ascending)
    return (values, indices) if return_indices else (values,)


@op("topk", "iOS17")
def topk_17(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Array, ...]:
    """`k` of -1 takes all."""
    if output_indices_dtype not in ("int32", "uint16"):
        raise ValueError(f"output_indices_dtype must be int32 or uint16, got {output_indices_dtype!r}")
    k = x.shape[axis_in(axis, x.ndim)] if k == -1 else k
    values, indices = _topk(x, k, axis, ascending)
    return (values, indices.astype(output_indices_dtype)) if return_indices else (values,)


@op("cumsum")
def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    axis = axis_in(axis, x.ndim)
    x = np.flip(x, axis) if reverse else x
    total = np.cumsum(x, axis=axis)
    if exclusive:  # shifted by one; subtracting x would turn infinity into NaN
        total = np.roll(total, 1, axis=axis)
        total[(slice(None),) * axis + (slice(0, 1),)] = 0
    return np.flip(total, axis) if reverse else total
