"""Convolution as matrix products. Source: coremltools, mil/ops/defs/iOS15/conv.py, iOS17/conv.py.

`convolve` and `deconvolve` are the plain functions; the ops translate MIL's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels._windows import Windows, padding, reach, size_of, slide
from device_sim.mil.limits import ITERATION_WORK
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, prod

COLUMNS: Final = 1 << 20
"""Elements of the columns that are multiplied at a time: they should stay in the cache."""
_BLOCK: Final = 1 << 16
"""Elements of a depthwise result that are computed at a time."""
_FEW: Final = 64
"""Kernels with at most as many elements are added up one by one in a depthwise convolution."""


def convolve(
    x: Array, weight: Array, bias: Array | None, windows: Windows, groups: int, *, acc: Accumulator
) -> Array:
    """Correlate x with each filter, as deep learning's convolution does.

    Args:
        x: (N, C, *spatial).
        weight: (outputs, C / groups, *kernel).
        bias: (outputs,).

    Returns:
        (N, outputs, *out).
    """
    check_filters(x, weight, bias, groups)
    padded = windows.pad(x)
    if weight.shape[1] == 1 and prod(windows.kernel) <= _FEW and not acc.rounds:
        result = _depthwise(padded, weight, windows)
    else:
        result = _multiply_columns(padded, weight, windows, groups, acc)
    if bias is not None:
        result += bias.reshape(-1, *([1] * len(windows.out)))
    return result


def check_filters(x: Array, weight: Array, bias: Array | None, groups: int, transposed: bool = False) -> int:
    """The number of output channels.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    if x.ndim < 3 or weight.ndim != x.ndim or groups < 1:
        raise ValueError(
            f"x{list(x.shape)} and weight{list(weight.shape)} must have the same rank of 3 or more, "
            f"and groups be positive, got {groups}"
        )
    if transposed:
        outputs = weight.shape[1] * groups
        fits = weight.shape[0] == x.shape[1] and x.shape[1] % groups == 0
    else:
        outputs = weight.shape[0]
        fits = weight.shape[1] * groups == x.shape[1] and outputs % groups == 0
    if not fits or (bias is not None and bias.shape != (outputs,)):
        got = "" if bias is None else f" and bias{list(bias.shape)}"
        raise ValueError(f"weight{list(weight.shape)}{got} do not fit x{list(x.shape)} in {groups} groups")
    return int(outputs)


def _multiply_columns(padded: Array, weight: Array, windows: Windows, groups: int, acc: Accumulator) -> Array:
    images, outputs = len(padded), len(weight)
    filters = weight.reshape(groups, outputs // groups, -1)
    view, before = windows.view(padded), 2 + len(windows.kernel)
    at_once, rows = _chunks(padded.shape[1], windows)
    if windows.plain:  # the array is its own columns
        at_once, rows = max(1, images), windows.out[0]
    result = np.empty((images, outputs, *windows.out), np.result_type(padded, weight))
    for first in range(0, images, at_once):
        for row in range(0, windows.out[0], rows):
            part = view[
                (slice(first, first + at_once), *[slice(None)] * (before - 1), slice(row, row + rows))
            ]
            columns = part.reshape(len(part), groups, filters.shape[2], -1)
            product = acc.matmul(filters, columns)
            result[first : first + at_once, :, row : row + rows] = product.reshape(
                len(part), outputs, *part.shape[before:]
            )
    return result


def _chunks(channels: int, windows: Windows) -> tuple[int, int]:
    """Images, and rows of one image, whose columns are about `COLUMNS` elements."""
    image = max(1, prod((channels, *windows.kernel, *windows.out)))
    if image <= COLUMNS:
        return COLUMNS // image, windows.out[0]
    return 1, max(1, COLUMNS // (image // windows.out[0]))


def _depthwise(padded: Array, weight: Array, windows: Windows) -> Array:
    """One filter after another element of it, a block of channels at a time."""
    channels, rank = padded.shape[1], len(windows.kernel)
    several = len(weight) // channels
    view = windows.view(padded)
    shape = (len(padded), channels, several, *windows.out)
    result = np.empty(shape, np.result_type(padded, weight))
    block = max(1, _BLOCK // max(1, prod(shape) // max(1, channels)))
    factors = weight.reshape(channels, several, *windows.kernel, *([1] * rank))
    for first in range(0, channels, block):
        channel = slice(first, first + block)
        total = result[:, channel]
        for i, place in enumerate(np.ndindex(*windows.kernel)):
            term = view[(slice(None), channel, *place)][:, :, None]
            factor = factors[(channel, slice(None), *place)]
            if i:
                total += term * factor
            else:
                np.multiply(term, factor, out=total)
    return result.reshape(len(padded), len(weight), *windows.out)


def deconvolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    strides: Ints,
    dilations: Ints,
    before: Ints,
    out: Ints,
    groups: int,
    *,
    acc: Accumulator,
) -> Array:
    """The transpose of a convolution: each element of x adds its filter to the result.

    Args:
        x: (N, C, *spatial).
        weight: (C, outputs / groups, *kernel).
        before: what is cut off the start of the full result, by spatial axis.
        out: spatial sizes of the result; beyond the full result it is 0, before the bias.

    Returns:
        (N, outputs, *out).
    """
    outputs = check_filters(x, weight, bias, groups, transposed=True)
    kernel, spatial = weight.shape[2:], x.shape[2:]
    full = full_size(spatial, kernel, strides, dilations)
    total = np.zeros((len(x), outputs, *full), np.result_type(x, weight))
    flat = x.reshape(len(x), groups, x.shape[1] // groups, -1)
    filters = weight.reshape(groups, -1, outputs // groups, *kernel).swapaxes(1, 2)
    for place in np.ndindex(*kernel):
        part = acc.matmul(filters[_last(place)], flat).reshape(len(x), outputs, *spatial)
        starts = [index * dilation for index, dilation in zip(place, dilations, strict=True)]
        axes = zip(starts, spatial, strides, strict=True)
        total[_last(slice(start, start + (size - 1) * by + 1, by) for start, size, by in axes)] += part
    cut = total[_last(slice(start, start + size) for start, size in zip(before, out, strict=True))]
    if cut.shape[2:] != out:
        result = np.zeros((len(x), outputs, *out), total.dtype)
        result[_last(slice(0, size) for size in cut.shape[2:])] = cut
    else:
        result = cut
    if bias is not None:
        result += bias.reshape(-1, *([1] * len(out)))
    return result


def full_size(spatial: Ints, kernel: Ints, strides: Ints, dilations: Ints) -> Ints:
    """Spatial sizes of a deconvolution before anything is cut off."""
    axes = zip(spatial, strides, reach(kernel, dilations), strict=True)
    return tuple((size - 1) * stride + wide for size, stride, wide in axes)


def _windows(
    x: Array,
    weight: Array,
    bias: Array | None,
    strides: Ints | None,
    pad_type: str,
    pad: Ints | None,
    dilations: Ints | None,
    groups: int,
) -> Windows:
    check_filters(x, weight, bias, groups)
    return slide(x.shape[2:], weight.shape[2:], strides, pad_type, pad, dilations)


def _conv_size(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> int:
    return convolution_size(x, weight, _windows(x, weight, bias, strides, pad_type, pad, dilations, groups))


def convolution_size(x: Array, weight: Array, windows: Windows) -> int:
    """Elements of the largest array that `convolve` makes."""
    row = prod((x.shape[1], *windows.kernel, *windows.out[1:]))
    return max(size_of(x, weight.shape[0], windows), 0 if windows.plain else row)


def _conv_work(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> int:
    return convolution_work(x, weight, _windows(x, weight, bias, strides, pad_type, pad, dilations, groups))


def convolution_work(x: Array, weight: Array, windows: Windows) -> int:
    """Multiply-adds of `convolve`, and the copies of its columns."""
    columns = prod((*x.shape[:2], *windows.kernel, *windows.out))
    return prod((x.shape[0], *weight.shape, *windows.out)) + 16 * columns


@op("conv", size=_conv_size, work=_conv_work)
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    *,
    acc: Accumulator,
) -> Array:
    windows = _windows(x, weight, bias, strides, pad_type, pad, dilations, groups)
    return convolve(x, weight, bias, windows, groups, acc=acc)


def _quantized(weight: Array, quantization_type: str, quant_scale: Array, quant_bias: Array) -> Array:
    if quantization_type != "linear":
        raise ValueError(f"only linear weights state their values, got {quantization_type!r}")
    shape = (-1, *([1] * (weight.ndim - 1)))
    scale, offset = (
        v if v.ndim == 0 or v.ndim == weight.ndim else v.reshape(shape) for v in (quant_scale, quant_bias)
    )
    return np.asarray(weight.astype(scale.dtype) * scale + offset)


def _conv_quantized_size(
    x: Array,
    weight: Array,
    quantization_type: str,
    quant_scale: Array,
    quant_bias: Array,
    nbits: int = 8,
    **others: Any,
) -> int:
    return max(weight.size, _conv_size(x, weight, **others))


def _conv_quantized_work(
    x: Array,
    weight: Array,
    quantization_type: str,
    quant_scale: Array,
    quant_bias: Array,
    nbits: int = 8,
    **others: Any,
) -> int:
    return _conv_work(x, weight, **others)


@op("conv_quantized", size=_conv_quantized_size, work=_conv_quantized_work)
def conv_quantized(
    x: Array,
    weight: Array,
    quantization_type: str,
    quant_scale: Array,
    quant_bias: Array,
    nbits: int = 8,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    *,
    acc: Accumulator,
) -> Array:
    """Weights are `weight * quant_scale + quant_bias`, one for all or one for each output."""
    weight = _quantized(weight, quantization_type, quant_scale, quant_bias)
    return conv(x, weight, bias, strides, pad_type, pad, dilations, groups, acc=acc)


def _transposed(
    x: Array,
    weight: Array,
    bias: Array | None,
    pad: Ints | None,
    output_shape: Ints | None,
    pad_type: str,
    strides: Ints | None,
    dilations: Ints | None,
    groups: int,
) -> tuple[Ints, Ints, Ints, Ints]:
    """Strides, dilations, what is cut off the start, and the sizes that are left."""
    outputs = check_filters(x, weight, bias, groups, transposed=True)
    spatial, kernel = x.shape[2:], weight.shape[2:]
    strides, dilations = strides or (1,) * len(spatial), dilations or (1,) * len(spatial)
    if not len(strides) == len(dilations) == len(spatial) or min(*strides, *dilations, *kernel) < 1:
        raise ValueError(
            f"strides {list(strides)} and dilations {list(dilations)} must be {len(spatial)} positive sizes"
        )
    full = full_size(spatial, kernel, strides, dilations)
    if output_shape is not None:
        if output_shape[:2] != (x.shape[0], outputs) or len(output_shape) != x.ndim:
            raise ValueError(
                f"output_shape must start with {[x.shape[0], outputs]}, got {list(output_shape)}"
            )
        out = output_shape[2:]
    elif pad_type == "same":
        out = tuple(size * stride for size, stride in zip(spatial, strides, strict=True))
    else:
        pads = padding(spatial, kernel, strides, pad_type, pad)
        out = tuple(size - sum(pair) for size, pair in zip(full, pads, strict=True))
    if min(out) < 1:
        raise ValueError(f"the result would have the sizes {list(out)}")
    pads = padding(out, reach(kernel, dilations), strides, pad_type, pad)
    return strides, dilations, tuple(pair[0] for pair in pads), out


def _conv_transpose_size(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> int:
    strides, dilations, _, out = _transposed(
        x, weight, bias, pad, output_shape, pad_type, strides, dilations, groups
    )
    full = full_size(x.shape[2:], weight.shape[2:], strides, dilations)
    return int(x.shape[0] * weight.shape[1] * groups * max(prod(full), prod(out)))


def _conv_transpose_work(x: Array, weight: Array, groups: int = 1, **_: object) -> int:
    return deconvolution_work(x, weight, groups)


def deconvolution_work(x: Array, weight: Array, groups: int) -> int:
    """Multiply-adds of `deconvolve`, its additions, and its loop over the kernel."""
    kernel, spatial = math.prod(weight.shape[2:]), math.prod(x.shape[2:])
    products = prod((x.shape[0], *weight.shape, spatial))
    added = prod((x.shape[0], weight.shape[1], groups, kernel, spatial))
    return products + 16 * added + kernel * ITERATION_WORK


@op("conv_transpose", size=_conv_transpose_size, work=_conv_transpose_work)
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    *,
    acc: Accumulator,
) -> Array:
    """weight (C, outputs / groups, *kernel)."""
    strides, dilations, before, out = _transposed(
        x, weight, bias, pad, output_shape, pad_type, strides, dilations, groups
    )
    return deconvolve(x, weight, bias, strides, dilations, before, out, groups, acc=acc)


def _last(index: Iterable[int | slice]) -> tuple[Any, ...]:
    """Of the last axes."""
    return (..., *index)
