"""Layers that arrange the same elements differently, join and split them, or take some out."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import shape as shapes
from device_sim.mil.kernels import slicing
from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import (
    CHANNEL,
    MANY,
    Build,
    Layer,
    choice,
    integers,
    kernel,
    listed,
    rank_at_least,
    scalar,
    shape_of,
    sizes_in,
    truth,
)
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array, prod
from personality_common.errors import DataError

_SEQUENCE: Final = -5


def _rank5(x: Array) -> Array:
    if x.ndim != 5:
        raise DataError(f"rank 5 is expected, got {list(x.shape)}")
    return x


def _reshape(p: Any, weights: Weights) -> Layer:
    """Of the last three axes of rank 5, or four but for the second; channel last, in the order H, W, C."""
    target, last = shape_of(p.targetShape, -1), choice(p, "mode") == "CHANNEL_LAST"
    if len(target) not in (3, 4):
        raise DataError(f"three or four sizes are expected, got {list(target)}")
    if last:
        target = (*target[:-3], *target[-2:], target[-3])

    def run(x: Array) -> Array:
        x = np.moveaxis(_rank5(x), CHANNEL, -1) if last else _rank5(x)
        if len(target) == 3:
            result = x.reshape(*x.shape[:2], *target)
        else:
            result = np.moveaxis(np.moveaxis(x, 0, 1).reshape(x.shape[1], *target), 0, 1)
        return np.moveaxis(result, -1, CHANNEL) if last else result

    return Layer(run)


def _flatten(p: Any, weights: Weights) -> Layer:
    last = choice(p, "mode") == "CHANNEL_LAST"

    def run(x: Array) -> Array:
        moved = np.moveaxis(rank_at_least(x, 3), CHANNEL, -1) if last else rank_at_least(x, 3)
        return moved.reshape(*x.shape[:-3], prod(x.shape[-3:]), 1, 1)

    return Layer(run)


def _permute(p: Any, weights: Weights) -> Layer:
    """Of the sequence, the channels, height and width; the batch stays."""
    axes = value(p, "axis")
    if sorted(axes) != [0, 1, 2, 3]:
        raise DataError(f"axis must be a permutation of 0, 1, 2, 3, got {list(axes)}")
    places = (0, 2, 3, 4)
    first, *others = (places[axis] for axis in axes)
    return Layer(lambda x: _rank5(x).transpose(first, 1, *others))


def _transpose(p: Any, weights: Weights) -> Layer:
    axes = shape_of(p.axes)
    return Layer(lambda x: shapes.transpose(x, axes))


def _reshape_static(p: Any, weights: Weights) -> Layer:
    target = shape_of(p.targetShape, -1)
    return Layer(lambda x: x.reshape(target))


def _rank_preserving_reshape(p: Any, weights: Weights) -> Layer:
    target = shape_of(p.targetShape, -1)

    def run(x: Array) -> Array:
        if len(target) != x.ndim:
            raise DataError(f"{x.ndim} sizes are expected for {list(x.shape)}, got {list(target)}")
        return shapes.reshape(x, target)

    return Layer(run)


def _reshape_dynamic(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x, shape: x.reshape(shape_of(sizes_in(shape), -1)), fewest=2, most=2)


def _reshape_like(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x, like: x.reshape(like.shape), fewest=2, most=2)


def _flatten_to_2d(p: Any, weights: Weights) -> Layer:
    """Sizes before the axis, and from it on; 1 where there are none."""

    def run(x: Array) -> Array:
        axis = p.axis if p.axis >= 0 else p.axis + x.ndim
        if not 0 <= axis <= x.ndim:
            raise DataError(f"axis {p.axis} is out of range for {list(x.shape)}")
        return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))

    return Layer(run)


def _expand_dims(p: Any, weights: Weights) -> Layer:
    axes = shape_of(p.axes, -1 << 63)
    return Layer(lambda x: shapes.expand_dims(x, axes))


def _squeeze(p: Any, weights: Weights) -> Layer:
    axes = None if p.squeezeAll else shape_of(p.axes, -1 << 63)

    def run(x: Array) -> Array:
        result = shapes.squeeze(x, axes)
        return result.reshape(1) if result.ndim == 0 else result

    return Layer(run)


def _reverse(p: Any, weights: Weights) -> Layer:
    flags = listed(p.reverseDim, "reverseDim")

    def run(x: Array) -> Array:
        if len(flags) != x.ndim:
            raise DataError(f"reverseDim must have {x.ndim} entries, got {len(flags)}")
        return shapes.reverse(x, tuple(axis for axis, flag in enumerate(flags) if flag))

    return Layer(run)


def _reverse_sequence(p: Any, weights: Weights) -> Layer:
    def run(x: Array, lengths: Array) -> Array:
        return shapes.reverse_sequence(x, integers(lengths), p.sequenceAxis, p.batchAxis)

    return Layer(run, fewest=2, most=2)


def _concat(p: Any, weights: Weights) -> Layer:
    axis = _SEQUENCE if p.sequenceConcat else CHANNEL
    return Layer(lambda *arrays: slicing.concat(arrays, axis), most=MANY)


def _concat_nd(p: Any, weights: Weights) -> Layer:
    return Layer(lambda *arrays: slicing.concat(arrays, p.axis, p.interleave), most=MANY)


def _stack(p: Any, weights: Weights) -> Layer:
    return Layer(lambda *arrays: slicing.stack(arrays, p.axis), most=MANY)


def _split(p: Any, weights: Weights) -> Layer:
    count = int(p.nOutputs)
    return Layer(lambda x: slicing.split(x, CHANNEL, count), gives=(count, count))


def _split_nd(p: Any, weights: Weights) -> Layer:
    sizes = listed(p.splitSizes, "splitSizes") or None
    count = len(sizes) if sizes else int(p.numSplits)
    return Layer(lambda x: slicing.split(x, p.axis, count, sizes), gives=(count, count))


def _tile(p: Any, weights: Weights) -> Layer:
    own = listed(p.reps, "reps")

    def arguments(x: Array, given: Array | None = None) -> dict[str, Any]:
        reps = own if given is None else sizes_in(given)
        return {"x": x, "reps": (1,) * (x.ndim - len(reps)) + reps}

    return kernel(weights, "tile", arguments, (1, 2))


def _sequence_repeat(p: Any, weights: Weights) -> Layer:
    count = value(p, "nRepetitions")
    return kernel(
        weights,
        "tile",
        lambda x: {"x": x, "reps": (1,) * (rank_at_least(x, 5).ndim - 5) + (count, 1, 1, 1, 1)},
    )


def _slice(p: Any, weights: Weights) -> Layer:
    axis = {"CHANNEL_AXIS": -3, "HEIGHT_AXIS": -2, "WIDTH_AXIS": -1}[choice(p, "axis")]
    if p.stride < 1:
        raise DataError("stride must be positive")
    index: tuple[Any, ...] = (..., slice(p.startIndex, p.endIndex, p.stride), *[slice(None)] * (-axis - 1))
    return Layer(lambda x: rank_at_least(x, -axis)[index])


def _slice_static(p: Any, weights: Weights) -> Layer:
    names = ("beginIds", "endIds", "strides", "beginMasks", "endMasks", "squeezeMasks")
    begin, end, strides, *masks = (listed(getattr(p, name), name) for name in names)
    return Layer(lambda x: slicing.slice_by_index(x, begin, end, strides, *masks))


def _slice_dynamic(p: Any, weights: Weights) -> Layer:
    """What is not given as an input is a parameter."""
    names = ("endIds", "strides", "beginMasks", "endMasks", "squeezeMasks")
    own = [listed(getattr(p, name), name) for name in names]

    def run(x: Array, begin: Array, *given: Array) -> Array:
        parts: list[Any] = [
            own[i]
            if i >= len(given)
            else sizes_in(given[i])
            if i < 2
            else tuple(map(bool, sizes_in(truth(given[i]))))
            for i in range(len(names))
        ]
        end, strides, *masks = parts
        return slicing.slice_by_index(x, sizes_in(begin), end, strides, *masks)

    return Layer(run, fewest=2, most=7)


def _slice_by_size(p: Any, weights: Weights) -> Layer:
    def run(x: Array, begin: Array) -> Array:
        axis, start = axis_in(p.axis, x.ndim), int(integers(np.asarray(scalar(begin))))
        start = start + x.shape[axis] if start < 0 else start
        if p.size < 0 or not 0 <= start <= start + p.size <= x.shape[axis]:
            raise DataError(f"{p.size} elements from {start} on leave axis {axis} of {list(x.shape)}")
        return x[(*[slice(None)] * axis, slice(start, start + p.size))]

    return Layer(run, fewest=2, most=2)


def _sliding_windows(p: Any, weights: Weights) -> Layer:
    return kernel(
        weights,
        "sliding_windows",
        lambda x: {"x": x, "axis": p.axis, "size": int(p.windowSize), "stride": int(p.step)},
    )


LAYERS: Final[dict[str, Build]] = {
    "reshape": _reshape,
    "flatten": _flatten,
    "permute": _permute,
    "transpose": _transpose,
    "reshapeStatic": _reshape_static,
    "reshapeDynamic": _reshape_dynamic,
    "reshapeLike": _reshape_like,
    "rankPreservingReshape": _rank_preserving_reshape,
    "flattenTo2D": _flatten_to_2d,
    "expandDims": _expand_dims,
    "squeeze": _squeeze,
    "reverse": _reverse,
    "reverseSeq": _reverse_sequence,
    "concat": _concat,
    "concatND": _concat_nd,
    "stack": _stack,
    "split": _split,
    "splitND": _split_nd,
    "tile": _tile,
    "sequenceRepeat": _sequence_repeat,
    "slice": _slice,
    "sliceStatic": _slice_static,
    "sliceDynamic": _slice_dynamic,
    "sliceBySize": _slice_by_size,
    "slidingWindows": _sliding_windows,
}
