"""Gathering and scattering by index.

An index out of range is an error here, whatever `validate_indices` says: MIL leaves what then
happens undefined. Source: coremltools, mil/ops/defs/iOS15/scatter_gather.py, iOS16, iOS17.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.registry import op
from device_sim.mil.types import Array, prod


def _gather_size(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> int:
    axis = axis_in(axis, x.ndim)
    if not 0 <= batch_dims <= min(axis, indices.ndim) or x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ValueError(
            f"batch_dims {batch_dims} and axis {axis} do not fit x{list(x.shape)} "
            f"and indices{list(indices.shape)}"
        )
    return prod(x.shape[:axis]) * prod(indices.shape[batch_dims:]) * prod(x.shape[axis + 1 :])


@op("gather", size=_gather_size)
def gather(x: Array, indices: Array, axis: int = 0) -> Array:
    return np.asarray(np.take(x, indices, axis=axis))


@op("gather", "iOS16", size=_gather_size)
def gather_16(x: Array, indices: Array, axis: int = 0, batch_dims: int = 0) -> Array:
    if batch_dims == 0:
        return gather(x, indices, axis)
    axis = axis_in(axis, x.ndim)
    _check(indices, x.shape[axis], negative=True)
    batch = [
        np.arange(size).reshape(-1, *([1] * (batch_dims - 1 - i)))
        for i, size in enumerate(x.shape[:batch_dims])
    ]
    # Axes between the batch and the gathered one go behind the index, then back before it.
    lead = np.moveaxis(x, axis, batch_dims)
    extra = indices.ndim - batch_dims
    picked = lead[(*tuple(b.reshape(*b.shape, *([1] * extra)) for b in batch), indices)]
    between = axis - batch_dims
    source = range(indices.ndim, indices.ndim + between)
    return np.moveaxis(picked, source, range(batch_dims, batch_dims + between))


@op("gather", "iOS17", size=_gather_size)
def gather_17(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    if validate_indices:
        _check(indices, x.shape[axis_in(axis, x.ndim)], negative=False)
    return gather_16(x, indices, axis, batch_dims)


@op("gather_along_axis", size=lambda x, indices, axis=0: indices.size)
def gather_along_axis(x: Array, indices: Array, axis: int = 0) -> Array:
    axis = _along(x, indices, axis)
    return np.take_along_axis(x, indices.astype(np.int64), axis=axis)


@op("gather_along_axis", "iOS17", size=lambda x, indices, axis=0, validate_indices=False: indices.size)
def gather_along_axis_17(x: Array, indices: Array, axis: int = 0, validate_indices: bool = False) -> Array:
    if validate_indices:
        _check(indices, x.shape[axis_in(axis, x.ndim)], negative=False)
    return gather_along_axis(x, indices, axis)


def _gather_nd_size(x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False) -> int:
    if indices.ndim < 1 or not 0 <= batch_dims < indices.ndim or batch_dims + indices.shape[-1] > x.ndim:
        raise ValueError(
            f"indices{list(indices.shape)} with batch_dims {batch_dims} do not fit x{list(x.shape)}"
        )
    if x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ValueError(f"x{list(x.shape)} and indices{list(indices.shape)} differ in their batch")
    return prod(indices.shape[:-1]) * prod(x.shape[batch_dims + indices.shape[-1] :])


@op("gather_nd", size=_gather_nd_size)
def gather_nd(x: Array, indices: Array) -> Array:
    return gather_nd_16(x, indices)


@op("gather_nd", "iOS16", size=_gather_nd_size)
def gather_nd_16(x: Array, indices: Array, batch_dims: int = 0) -> Array:
    batch = np.indices(indices.shape[:-1], sparse=True)[:batch_dims]
    return np.asarray(x[(*batch, *np.moveaxis(indices, -1, 0))])


@op("gather_nd", "iOS17", size=_gather_nd_size)
def gather_nd_17(x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False) -> Array:
    if validate_indices:
        for i in range(indices.shape[-1]):
            _check(indices[..., i], x.shape[batch_dims + i], negative=False)
    return gather_nd_16(x, indices, batch_dims)


_MODES: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _scatter(data: Array, index: tuple[Any, ...], updates: Array, mode: str) -> Array:
    result = data.copy()
    expected = np.shape(result[index])
    if updates.shape != expected:
        raise ValueError(f"updates must have shape {list(expected)}, got {list(updates.shape)}")
    if mode == "update":
        result[index] = updates
    elif mode in _MODES:
        # Unlike `result[index] += updates`, counts an index that comes twice.
        at: Callable[..., None] = _MODES[mode].at
        at(result, index, updates)
    else:
        raise ValueError(f"mode must be update or one of {', '.join(_MODES)}, got {mode!r}")
    return result


def _scatter_size(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> int:
    axis = axis_in(axis, data.ndim)
    return max(data.size, prod(data.shape[:axis]) * indices.size * prod(data.shape[axis + 1 :]))


@op("scatter", size=_scatter_size)
def scatter(data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add") -> Array:
    axis = axis_in(axis, data.ndim)
    return _scatter(data, (slice(None),) * axis + (indices,), updates, mode)


@op("scatter", "iOS17", size=_scatter_size)
def scatter_17(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    if validate_indices:
        _check(indices, data.shape[axis_in(axis, data.ndim)], negative=False)
    return scatter(data, indices, updates, axis, mode)


@op("scatter_along_axis")
def scatter_along_axis(
    data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add"
) -> Array:
    axis = _along(data, indices, axis)
    index: list[Any] = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices
    return _scatter(data, tuple(index), updates, mode)


@op("scatter_along_axis", "iOS17")
def scatter_along_axis_17(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    if validate_indices:
        _check(indices, data.shape[axis_in(axis, data.ndim)], negative=False)
    return scatter_along_axis(data, indices, updates, axis, mode)


def _scatter_nd_size(
    data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: bool = False
) -> int:
    return max(data.size, _gather_nd_size(data, indices))


@op("scatter_nd", size=_scatter_nd_size)
def scatter_nd(data: Array, indices: Array, updates: Array, mode: str = "add") -> Array:
    return _scatter(data, tuple(np.moveaxis(indices, -1, 0)), updates, mode)


@op("scatter_nd", "iOS17", size=_scatter_nd_size)
def scatter_nd_17(
    data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: bool = False
) -> Array:
    if validate_indices:
        for i in range(indices.shape[-1]):
            _check(indices[..., i], data.shape[i], negative=False)
    return scatter_nd(data, indices, updates, mode)


def _along(x: Array, indices: Array, axis: int) -> int:
    """The axis, if `indices` has x's shape along all others."""
    axis = axis_in(axis, x.ndim)
    others = [i for i in range(x.ndim) if i != axis]
    if indices.ndim != x.ndim or any(x.shape[i] != indices.shape[i] for i in others):
        raise ValueError(
            f"indices{list(indices.shape)} must have the shape of x{list(x.shape)} but for axis {axis}"
        )
    return axis


def _check(indices: Array, size: int, *, negative: bool) -> None:
    if indices.size and not (-size if negative else 0) <= indices.min() <= indices.max() < size:
        raise IndexError(f"indices must be below {size}, got {indices.min()} to {indices.max()}")
