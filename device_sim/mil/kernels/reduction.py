"""Reductions. Source: coremltools, mil/ops/defs/iOS15/reduction.py, iOS17/reduction.py."""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import axes_in, axis_in
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints


@op("reduce_argmax")
def reduce_argmax(x: Array, axis: int = -1, keep_dims: bool = False) -> Array:
    return np.asarray(np.argmax(x, axis=axis_in(axis, x.ndim), keepdims=keep_dims))


@op("reduce_argmax", "iOS17")
def reduce_argmax_17(x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Array:
    return reduce_argmax(x, axis, keep_dims).astype(_index_dtype(output_dtype))


@op("reduce_argmin")
def reduce_argmin(x: Array, axis: int = -1, keep_dims: bool = False) -> Array:
    return np.asarray(np.argmin(x, axis=axis_in(axis, x.ndim), keepdims=keep_dims))


@op("reduce_argmin", "iOS17")
def reduce_argmin_17(x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Array:
    return reduce_argmin(x, axis, keep_dims).astype(_index_dtype(output_dtype))


@op("reduce_l1_norm")
def reduce_l1_norm(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator) -> Array:
    return acc.sum(np.abs(x), axes_in(axes, x.ndim), keep_dims)


@op("reduce_l2_norm")
def reduce_l2_norm(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator) -> Array:
    return _like(x, np.sqrt(acc.sum(np.square(x), axes_in(axes, x.ndim), keep_dims)))


@op("reduce_log_sum")
def reduce_log_sum(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator) -> Array:
    return _like(x, np.log(acc.sum(x, axes_in(axes, x.ndim), keep_dims)))


@op("reduce_log_sum_exp")
def reduce_log_sum_exp(
    x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator
) -> Array:
    over = axes_in(axes, x.ndim)
    largest = np.max(x, axis=over, keepdims=True)
    total = np.log(acc.sum(np.exp(x - largest), over, keep_dims))
    return _like(x, total + (largest if keep_dims else np.squeeze(largest, axis=over)))


@op("reduce_max")
def reduce_max(x: Array, axes: Ints | None = None, keep_dims: bool = False) -> Array:
    return np.asarray(np.max(x, axis=axes_in(axes, x.ndim), keepdims=keep_dims))


@op("reduce_mean")
def reduce_mean(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator) -> Array:
    return _like(x, acc.mean(x, axes_in(axes, x.ndim), keep_dims))


@op("reduce_min")
def reduce_min(x: Array, axes: Ints | None = None, keep_dims: bool = False) -> Array:
    return np.asarray(np.min(x, axis=axes_in(axes, x.ndim), keepdims=keep_dims))


@op("reduce_prod")
def reduce_prod(x: Array, axes: Ints | None = None, keep_dims: bool = False) -> Array:
    return np.asarray(np.prod(x, axis=axes_in(axes, x.ndim), keepdims=keep_dims))


@op("reduce_sum")
def reduce_sum(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator) -> Array:
    return acc.sum(x, axes_in(axes, x.ndim), keep_dims)


@op("reduce_sum_square")
def reduce_sum_square(
    x: Array, axes: Ints | None = None, keep_dims: bool = False, *, acc: Accumulator
) -> Array:
    return acc.sum(np.square(x), axes_in(axes, x.ndim), keep_dims)


def _like(x: Array, result: Array) -> Array:
    """Integers in, integers out: the fraction is dropped, as Apple's own evaluation does."""
    return result if x.dtype.kind == "f" else np.trunc(result).astype(np.int64)


def _index_dtype(name: str) -> type[np.generic]:
    if name not in ("int32", "uint16"):
        raise ValueError(f"output_dtype must be int32 or uint16, got {name!r}")
    return np.int32 if name == "int32" else np.uint16
