"""Pooling, one axis after another. Source: coremltools, mil/ops/defs/iOS15/pool.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from device_sim.mil.kernels._windows import Windows, size_of, slide
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, prod

_FEW: Final = 32
"""A window of as many elements is reduced one by one; a longer one in its own axis."""


def largest_in(x: Array, windows: Windows) -> Array:
    """The largest element in each window; x (N, C, *spatial). Padding counts as minus infinity."""

    def along(view: Array) -> Array:
        if view.shape[-1] > _FEW:
            return np.asarray(view.max(axis=-1))
        total = view[..., 0].copy()
        for i in range(1, view.shape[-1]):
            np.maximum(total, view[..., i], out=total)
        return total

    return _by_axis(windows.pad(x, -np.inf), windows, along)


def sum_in(x: Array, windows: Windows, *, acc: Accumulator) -> Array:
    """The sum of each window; x (N, C, *spatial)."""

    def along(view: Array) -> Array:
        if acc.rounds or view.shape[-1] > _FEW:
            return acc.sum(view, (view.ndim - 1,), False)
        total = view[..., 0].copy()
        for i in range(1, view.shape[-1]):
            total += view[..., i]
        return total

    return _by_axis(windows.pad(x), windows, along)


def mean_in(x: Array, windows: Windows, exclude_padding: bool, *, acc: Accumulator) -> Array:
    """The mean of each window; x (N, C, *spatial).

    Where the last window reaches beyond the padding (`ceil_mode`), what is beyond does not count, as
    in torch.
    """
    mean: Array = sum_in(x, windows, acc=acc) / _counts(windows, exclude_padding).astype(x.dtype)
    return mean


def _counts(windows: Windows, exclude_padding: bool) -> Array:
    """Elements that count in each window: (*out)."""
    total = np.ones(())
    for axis, size in enumerate(windows.spatial):
        before, after = windows.pads[axis]
        low, high = (before, before + size) if exclude_padding else (0, before + size + after)
        starts = np.arange(windows.out[axis]) * windows.strides[axis]
        places = np.arange(windows.kernel[axis]) * windows.dilations[axis]
        first = np.searchsorted(places, low - starts)
        inside = np.searchsorted(places, high - starts) - first
        total = total[..., None] * np.maximum(inside, 1)
    return total


def _by_axis(x: Array, windows: Windows, along: Callable[[Array], Array]) -> Array:
    """Reduce the windows axis by axis; `along` reduces the last axis."""
    for axis, size in enumerate(windows.kernel, start=2):
        wide = (size - 1) * windows.dilations[axis - 2] + 1
        view = sliding_window_view(x, wide, axis)[..., :: windows.dilations[axis - 2]]
        chosen = (slice(None),) * axis + (slice(None, None, windows.strides[axis - 2]),)
        x = along(view[chosen])
    return x


def pooling_work(x: Array, windows: Windows) -> int:
    """Elements that are touched, in the units of `Usage.spend`."""
    return 16 * prod((*x.shape[:2], *windows.padded)) * sum(windows.kernel)


def _windows(
    x: Array,
    kernel_sizes: Ints,
    strides: Ints | None,
    pad_type: str,
    pad: Ints | None,
    ceil_mode: bool,
) -> Windows:
    if x.ndim < 3:
        raise ValueError(f"x must have rank 3 or more, got {list(x.shape)}")
    return slide(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode=ceil_mode)


def _size(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> int:
    return size_of(x, x.shape[1], _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode))


def _work(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> int:
    return pooling_work(x, _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode))


@op("max_pool", size=_size, work=_work)
def max_pool(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Array:
    return largest_in(x, _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode))


@op("avg_pool", size=_size, work=_work)
def avg_pool(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
    *,
    acc: Accumulator,
) -> Array:
    windows = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return mean_in(x, windows, exclude_padding_from_average, acc=acc)


@op("l2_pool", size=_size, work=_work)
def l2_pool(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    *,
    acc: Accumulator,
) -> Array:
    """The square root of the sum of squares."""
    windows = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.sqrt(sum_in(np.square(x), windows, acc=acc))
