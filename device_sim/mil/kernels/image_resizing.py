"""Resizing and cropping of images.

Source: coremltools, mil/ops/defs/iOS15/image_resizing.py, iOS16, iOS17. Places between elements are
computed in float64; the interpolation is in the policy's type.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, Number, prod

SAMPLING_MODES: Final = (
    "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS",
    "DEFAULT",
    "OFFSET_CORNERS",
    "UNALIGN_CORNERS",
)


def grid(size: int, out: int, mode: str) -> Array:
    """Where each of `out` elements lies in [0, size - 1]: (out,) float64; `mode` as MIL names it.

    Raises:
        ValueError: unknown mode, or no elements.
    """
    if size < 1 or out < 1:
        raise ValueError(f"an axis of {size} elements cannot become one of {out}")
    i = np.arange(out, dtype=np.float64)
    if mode == "STRICT_ALIGN_CORNERS" or (mode == "ALIGN_CORNERS" and out > 1):
        points = i * ((size - 1) / (out - 1)) if out > 1 else i
    elif mode == "ALIGN_CORNERS":
        points = np.full(1, (size - 1) / 2)
    elif mode == "DEFAULT":
        points = i * (size / out)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / out
        points = (i + 0.5) * delta
    elif mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * (size / out) - 0.5
    else:
        raise ValueError(f"sampling_mode must be one of {', '.join(SAMPLING_MODES)}, got {mode!r}")
    return np.clip(points, 0, size - 1)


def interpolate(x: Array, points: Array, axis: int) -> Array:
    """Linear interpolation of x along `axis` at `points`, which lie in [0, size - 1]."""
    low = np.minimum(np.floor(points).astype(np.intp), max(x.shape[axis] - 2, 0))
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    share = (points - low).astype(x.dtype if x.dtype.kind == "f" else np.float64).reshape(shape)
    first, second = x.take(low, axis), x.take(high, axis)
    return np.asarray(first * (1 - share) + second * share)


def linear_resize(x: Array, out: Ints, mode: str) -> Array:
    """Resize the last axes of x to `out`; `mode` as in `grid`."""
    for axis, size in enumerate(out, start=x.ndim - len(out)):
        points = grid(x.shape[axis], size, mode)
        if size != x.shape[axis] or not np.array_equal(points, np.arange(size)):
            x = interpolate(x, points, axis)
    return x


def nearest_resize(x: Array, out: Ints, mode: str) -> Array:
    """Resize the last axes of x to `out` with the nearest element.

    DEFAULT takes the element before, as TensorFlow and torch's `nearest` do; the other modes the nearest
    one, of two as near the later.
    """
    for axis, size in enumerate(out, start=x.ndim - len(out)):
        if mode == "DEFAULT":
            grid(x.shape[axis], size, mode)
            index = np.arange(size) * x.shape[axis] // size
        elif mode == "UNALIGN_CORNERS":
            grid(x.shape[axis], size, mode)
            index = (2 * np.arange(size) + 1) * x.shape[axis] // (2 * size)
        else:
            index = np.floor(grid(x.shape[axis], size, mode) + 0.5).astype(np.intp)
        x = x.take(index, axis)
    return x


def resized_size(x: Array, out: Ints) -> int:
    """Elements of the largest array on the way to `out`, which are the sizes of the last axes."""
    if x.ndim < len(out) or min(out, default=1) < 1:
        raise ValueError(f"x{list(x.shape)} cannot be resized to {list(out)}")
    sizes, most = list(x.shape), prod(x.shape)
    for axis, size in enumerate(out, start=x.ndim - len(out)):
        sizes[axis] = size
        most = max(most, prod(sizes), size)
    return most


def _scaled(x: Array, scale_factor_height: Number, scale_factor_width: Number) -> Ints:
    """Sizes of the last two axes after scaling."""
    factors = scale_factor_height, scale_factor_width
    if x.ndim < 3 or not all(math.isfinite(f) and f > 0 for f in factors):
        raise ValueError(f"x{list(x.shape)} must have rank 3 or more, the factors be positive, got {factors}")
    # coremltools multiplies in the factor's own type, float32.
    return tuple(math.floor(np.float32(f) * s) for f, s in zip(factors, x.shape[-2:], strict=True))


def _upsample_size(
    x: Array, scale_factor_height: Number = 1, scale_factor_width: Number = 1, **_: object
) -> int:
    return resized_size(x, _scaled(x, scale_factor_height, scale_factor_width))


@op("upsample_nearest_neighbor", size=_upsample_size)
def upsample_nearest_neighbor(
    x: Array, scale_factor_height: Number = 1, scale_factor_width: Number = 1
) -> Array:
    """Element floor(i / factor) of each axis."""
    out = _scaled(x, scale_factor_height, scale_factor_width)
    for axis, size, factor in zip((-2, -1), out, (scale_factor_height, scale_factor_width), strict=True):
        index = np.floor(np.arange(size) / factor).astype(np.intp)
        x = x.take(np.minimum(index, x.shape[axis] - 1), axis)
    return x


@op("upsample_bilinear", size=_upsample_size)
def upsample_bilinear(
    x: Array, scale_factor_height: Number = 1, scale_factor_width: Number = 1, align_corners: bool = True
) -> Array:
    out = _scaled(x, scale_factor_height, scale_factor_width)
    return linear_resize(x, out, "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS")


@op("upsample_bilinear", "iOS16", size=_upsample_size)
def upsample_bilinear_16(
    x: Array,
    scale_factor_height: Number = 1,
    scale_factor_width: Number = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    """Without half pixels and aligned corners, the grid starts at 0 and has steps of the factor."""
    out = _scaled(x, scale_factor_height, scale_factor_width)
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and half:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    return linear_resize(x, out, mode)


def _target(x: Array, target_size_height: int = 1, target_size_width: int = 1, **_: object) -> int:
    if x.ndim < 3:
        raise ValueError(f"x must have rank 3 or more, got {list(x.shape)}")
    return resized_size(x, (target_size_height, target_size_width))


@op("resize_bilinear", size=_target)
def resize_bilinear(
    x: Array, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    return linear_resize(x, (target_size_height, target_size_width), sampling_mode)


@op("resize_nearest_neighbor", size=_target)
def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Array:
    """With half-pixel centres, as coremltools' converter of TensorFlow uses it."""
    return nearest_resize(x, (target_size_height, target_size_width), "UNALIGN_CORNERS")


def _resize_target(x: Array, shape: Ints, resized_dims: int) -> Ints:
    if not 0 <= resized_dims <= min(len(shape), x.ndim):
        raise ValueError(
            f"resized_dims must be at most the length of shape{list(shape)} and the rank of "
            f"x{list(x.shape)}, got {resized_dims}"
        )
    last = shape[len(shape) - resized_dims :], x.shape[x.ndim - resized_dims :]
    return tuple(wanted or size for wanted, size in zip(*last, strict=True))


def _resize_size(x: Array, shape: Ints, resized_dims: int, **_: object) -> int:
    return resized_size(x, _resize_target(x, shape, resized_dims))


@op("resize", "iOS17", size=_resize_size)
def resize(
    x: Array,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """Integers that are interpolated lose their fraction."""
    out = _resize_target(x, shape, resized_dims)
    if interpolation_mode == "NEAREST_NEIGHBOR":
        return nearest_resize(x, out, sampling_mode)
    if interpolation_mode != "LINEAR":
        raise ValueError(f"interpolation_mode must be LINEAR or NEAREST_NEIGHBOR, got {interpolation_mode!r}")
    result = linear_resize(x, out, sampling_mode)
    return result if x.dtype.kind == "f" else np.trunc(result).astype(x.dtype)


@op("crop")
def crop(x: Array, crop_height: Ints, crop_width: Ints) -> Array:
    """Of the last two axes, what is cut off the start and the end."""
    sizes = x.shape[-2:]
    if x.ndim < 3 or len(crop_height) != 2 or len(crop_width) != 2 or min(*crop_height, *crop_width) < 0:
        raise ValueError(
            f"x{list(x.shape)} must have rank 3 or more, crops be two sizes, "
            f"got {list(crop_height)} and {list(crop_width)}"
        )
    ends = [size - after for size, (_, after) in zip(sizes, (crop_height, crop_width), strict=True)]
    if ends[0] < crop_height[0] or ends[1] < crop_width[0]:
        raise ValueError(
            f"x{list(x.shape)} is smaller than the crops {list(crop_height)}, {list(crop_width)}"
        )
    return x[..., crop_height[0] : ends[0], crop_width[0] : ends[1]]
