"""Slices, joins and splits.

Source: coremltools, mil/ops/defs/iOS15/tensor_transformation.py, tensor_operation.py,
_utils.py, iOS18/tensor_transformation.py.
"""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Arrays, Bools, Ints, extent, prod

MAX_SPLITS = 1024
"""Nothing of size 0 can be split into any number of parts."""


def _slices(
    x: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[slice | int, ...]:
    """NumPy's index; a masked begin or end is open, a squeezed axis is a plain index."""
    rank = x.ndim
    stride = stride or (1,) * rank
    no = (False,) * rank
    begin_mask, end_mask, squeeze_mask = begin_mask or no, end_mask or no, squeeze_mask or no
    parts = (begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if any(len(part) != rank for part in parts):
        lengths = [len(part) for part in parts]
        raise ValueError(f"begin, end, strides and masks must have length {rank}, got lengths {lengths}")
    return tuple(
        (0 if begin_open else first)
        if squeezed
        else slice(None if begin_open else first, None if end_open else last, step)
        for first, last, step, begin_open, end_open, squeezed in zip(*parts, strict=True)
    )


@op("slice_by_index")
def slice_by_index(
    x: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Array:
    return np.asarray(x[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)])


@op("slice_update", "iOS18")
def slice_update(
    x: Array,
    update: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Array:
    result = x.copy()
    index = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if np.shape(result[index]) != update.shape:
        raise ValueError(
            f"update{list(update.shape)} must have the slice's shape {list(np.shape(result[index]))}"
        )
    result[index] = update
    return result


@op("slice_by_size")
def slice_by_size(x: Array, begin: Ints, size: Ints) -> Array:
    """A size of -1 takes all that follow."""
    if len(begin) != x.ndim or len(size) != x.ndim:
        raise ValueError(f"begin and size must have length {x.ndim}, got {len(begin)} and {len(size)}")
    index = []
    for first, count, whole in zip(begin, size, x.shape, strict=True):
        start = first + whole if first < 0 else first
        stop = whole if count == -1 else start + count
        if not 0 <= start <= stop <= whole:
            raise ValueError(f"begin {list(begin)} and size {list(size)} leave x{list(x.shape)}")
        index.append(slice(start, stop))
    return x[tuple(index)]


@op("concat")
def concat(values: Arrays, axis: int, interleave: bool = False) -> Array:
    if values and values[0].ndim == 0:
        return np.stack(values)
    if not interleave:
        return np.concatenate(values, axis=axis)
    axis = axis_in(axis, values[0].ndim)
    stacked = np.stack(values, axis=axis + 1)
    sizes = list(values[0].shape)
    sizes[axis] *= len(values)
    return stacked.reshape(sizes)


@op("stack")
def stack(values: Arrays, axis: int) -> Array:
    return np.stack(values, axis=axis)


@op("split")
def split(
    x: Array, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Array, ...]:
    axis = axis_in(axis, x.ndim)
    whole = x.shape[axis]
    if split_sizes is None:
        if num_splits is None or not 1 <= num_splits <= MAX_SPLITS or whole % num_splits:
            raise ValueError(f"axis {axis} of x{list(x.shape)} cannot be split into {num_splits} equal parts")
        return tuple(np.split(x, num_splits, axis=axis))
    if min(split_sizes, default=-1) < 0 or sum(split_sizes) != whole:
        raise ValueError(f"split_sizes {list(split_sizes)} must add up to {whole}")
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis=axis))


def _windows(x: Array, axis: int, size: int, stride: int = 1) -> int:
    count = _window_count(x, axis, size, stride)
    return prod((extent(x.shape) // max(x.shape[axis], 1), count, size))


def _window_count(x: Array, axis: int, size: int, stride: int) -> int:
    whole = x.shape[axis_in(axis, x.ndim)]
    if size < 1 or stride < 1 or size > whole:
        raise ValueError(f"size {size} and stride {stride} do not fit axis {axis} of x{list(x.shape)}")
    return int(whole - size) // stride + 1


@op("sliding_windows", size=_windows)
def sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Array:
    """(…, D, …) to (…, windows, size, …)."""
    axis = axis_in(axis, x.ndim)
    count = _window_count(x, axis, size, stride)
    index = np.arange(count)[:, None] * stride + np.arange(size)
    return np.take(x, index, axis=axis)
