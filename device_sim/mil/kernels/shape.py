"""Ops that arrange the same elements differently; most results are views.

Source: coremltools, mil/ops/defs/iOS15/tensor_transformation.py, iOS16 and iOS17 likewise.
"""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import axes_in, axis_in
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Arrays, Bools, Ints, prod


@op("expand_dims")
def expand_dims(x: Array, axes: Ints) -> Array:
    return np.expand_dims(x, axes)


@op("squeeze")
def squeeze(x: Array, axes: Ints | None = None) -> Array:
    # Axes that are not single are left alone, as in PyTorch.
    single = [axis for axis in axes_in(axes, x.ndim) if x.shape[axis] == 1]
    return np.squeeze(x, axis=tuple(single))


@op("reshape")
def reshape(x: Array, shape: Ints) -> Array:
    """0 takes the size that x has at the same place; -1 what remains."""
    if 0 in shape and len(shape) != x.ndim:
        raise ValueError(f"a shape with zeros must have the rank of x{list(x.shape)}, got {list(shape)}")
    return np.reshape(x, _infer(x, [size or x.shape[i] for i, size in enumerate(shape)]))


@op("reshape", "iOS17")
def reshape_17(x: Array, shape: Ints) -> Array:
    """0 takes the size that x has at the same place counted from the end, or 1."""
    offset = x.ndim - len(shape)
    sizes = [size or (x.shape[i + offset] if i + offset >= 0 else 1) for i, size in enumerate(shape)]
    return np.reshape(x, _infer(x, sizes))


def _infer(x: Array, sizes: list[int]) -> list[int]:
    """Put a number in place of -1; by hand, since NumPy refuses it beside a size of 0."""
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise ValueError(f"a shape may have one -1 and no other negative size, got {sizes}")
    if -1 in sizes:
        known = prod([size for size in sizes if size != -1])
        sizes[sizes.index(-1)] = x.size // known if known else 0
    return sizes


@op("reshape_like", "iOS16")
def reshape_like(x: Array, ref_tensors: Arrays, begins: Ints, ends: Ints, end_masks: Bools) -> Array:
    sizes: list[int] = []
    for ref, begin, end, to_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += ref.shape[begin:] if to_end else ref.shape[begin:end]
    return np.reshape(x, sizes)


@op("transpose")
def transpose(x: Array, perm: Ints) -> Array:
    return np.transpose(x, perm)


@op("reverse")
def reverse(x: Array, axes: Ints | None = None) -> Array:
    return np.flip(x, axes_in(axes, x.ndim))


@op("reverse_sequence")
def reverse_sequence(x: Array, lengths: Array, seq_axis: int = 0, batch_axis: int = 0) -> Array:
    """Reverse the first `lengths[i]` elements along `seq_axis` of each batch item."""
    seq_axis, batch_axis = axis_in(seq_axis, x.ndim), axis_in(batch_axis, x.ndim)
    size = x.shape[seq_axis]
    if seq_axis == batch_axis or lengths.shape != (x.shape[batch_axis],):
        raise ValueError(
            f"lengths{list(lengths.shape)} must have one entry per batch item of x{list(x.shape)}"
        )
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= size:
        raise ValueError(f"lengths must be from 0 to {size}")
    steps, length = np.arange(size), lengths.astype(np.int64)[:, None]
    order = np.where(steps < length, length - 1 - steps, steps)  # (batch, sequence)
    moved = np.moveaxis(x, (batch_axis, seq_axis), (0, 1))
    reversed_ = moved[np.arange(len(order))[:, None], order]
    return np.moveaxis(reversed_, (0, 1), (batch_axis, seq_axis))


@op("flatten2d")
def flatten2d(x: Array, axis: int = 1) -> Array:
    return np.reshape(x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


@op("identity")
def identity(x: Array) -> Array:
    return x


@op("shape")
def shape(x: Array) -> Array:
    return np.array(x.shape, np.int32)


@op("pixel_shuffle")
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """(N, C f f, H, W) to (N, C, H f, W f)."""
    n, c, h, w = x.shape
    f = upscale_factor
    if f < 1 or c % (f * f):
        raise ValueError(f"{c} channels cannot be divided by upscale_factor {f} squared")
    blocks = x.reshape(n, c // (f * f), f, f, h, w)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, c // (f * f), h * f, w * f)


@op("pixel_unshuffle", "iOS16")
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """(N, C, H f, W f) to (N, C f f, H, W)."""
    n, c, h, w = x.shape
    f = downscale_factor
    if f < 1 or h % f or w % f:
        raise ValueError(f"sizes {h} and {w} cannot be divided by downscale_factor {f}")
    blocks = x.reshape(n, c, h // f, f, w // f, f)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(n, c * f * f, h // f, w // f)
