"""Convolution, deconvolution and pooling over the last two axes, or three of rank 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import convolution as conv
from device_sim.mil.kernels import pooling
from device_sim.mil.kernels._windows import Pairs, Windows, padding, reach, size_of, slide
from device_sim.mil.layers.defaults import DEFAULTS, value
from device_sim.mil.layers.layer import Build, Layer, choice
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array, Ints, prod
from personality_common.errors import DataError

_LARGEST: Final = 1 << 31
"""No kernel, stride or padding is larger; sums of products of them stay integers of a word."""
_AXES: Final = ("Depth", "Height", "Width")


def positive(sizes: Ints, count: int, name: str, least: int = 1) -> Ints:
    """As many sizes as there are axes, none below `least`.

    Raises:
        DataError: otherwise.
    """
    if len(sizes) != count or min(sizes) < least or max(sizes) > _LARGEST:
        raise DataError(f"{name} must be {count} sizes of {least} or more, got {list(sizes)}")
    return sizes


def borders(p: Any) -> Pairs:
    """What a `BorderAmounts` adds or cuts off, of height and width; nothing if it is unset."""
    pairs = tuple((int(edge.startEdgeSize), int(edge.endEdgeSize)) for edge in p.borderAmounts[:3])
    pairs = pairs or DEFAULTS["ValidPadding"]["paddingAmounts"]
    if len(pairs) != 2:
        raise DataError(f"borderAmounts must be those of height and width, got {len(p.borderAmounts)}")
    positive(tuple(size for pair in pairs for size in pair), 4, "borderAmounts", 0)
    return pairs


def _images(x: Array, rank: int) -> Array:
    """(N, C, *spatial): all axes before the channels are one."""
    if x.ndim < rank + 2:
        raise DataError(f"rank {rank + 2} or more is expected, got {list(x.shape)}")
    return x.reshape(-1, *x.shape[-rank - 1 :])


def _padding(p: Any, oneof: str) -> tuple[str, Ints]:
    """The name and the amounts of the padding, as the kernels take them."""
    kind = p.WhichOneof(oneof)
    if kind == "valid":
        return "custom", tuple(size for pair in borders(p.valid.paddingAmounts) for size in pair)
    if kind == "same":
        lower = choice(p.same, "asymmetryMode") == "TOP_LEFT_HEAVY"
        return ("same_lower" if lower else "same"), ()
    if kind == "includeLastPixel":
        height, width = positive(value(p.includeLastPixel, "paddingAmounts"), 2, "paddingAmounts", 0)
        return "last", (height, height, width, width)
    raise DataError(f"{oneof} must be set")


def _sliding(
    rank: int, strides: Ints, dilations: Ints, groups: int, pads: tuple[str, Ints], weights: Weights
) -> Layer:
    """A convolution; its weights come as an argument, since a network may compute them."""

    def windows(x: Array, filters: Array, bias: Array | None) -> Windows:
        images = _images(x, rank)
        conv.check_filters(images, filters, bias, groups)
        return slide(images.shape[2:], filters.shape[2:], strides, pads[0], pads[1] or None, dilations)

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        acc = weights.policy.accumulator
        result = conv.convolve(_images(x, rank), weight, bias, windows(x, weight, bias), groups, acc=acc)
        return result.reshape(*x.shape[: -rank - 1], *result.shape[1:])

    def size(x: Array, weight: Array, bias: Array | None = None) -> int:
        return conv.convolution_size(_images(x, rank), weight, windows(x, weight, bias))

    def work(x: Array, weight: Array, bias: Array | None = None) -> int:
        return conv.convolution_work(_images(x, rank), weight, windows(x, weight, bias))

    return Layer(run, size=size, work=work)


def _transposed(
    rank: int,
    strides: Ints,
    dilations: Ints,
    groups: int,
    pads: tuple[str, Ints],
    target: Ints,
    weights: Weights,
) -> Layer:
    """A deconvolution. With a target, the padding is what leads to it, more of it at the end."""

    def plan(images: Array, weight: Array) -> tuple[Ints, Ints]:
        """What is cut off the start, and the sizes that are left."""
        conv.check_filters(images, weight, None, groups, transposed=True)
        spatial, kernel = images.shape[2:], weight.shape[2:]
        full = conv.full_size(spatial, kernel, strides, dilations)
        if target or pads[0] != "custom":
            out = target or tuple(size * stride for size, stride in zip(spatial, strides, strict=True))
            cut = [max(0, whole - size) for whole, size in zip(full, out, strict=True)]
            heavy = pads[0] == "same_lower" and not target
            before = tuple((size + heavy) // 2 for size in cut)
        else:
            pairs = padding(spatial, reach(kernel, dilations), strides, *pads)
            out = tuple(whole - sum(pair) for whole, pair in zip(full, pairs, strict=True))
            before = tuple(pair[0] for pair in pairs)
        if min(out) < 1:
            raise ValueError(f"the result would have the sizes {list(out)}")
        return before, out

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        images, acc = _images(x, rank), weights.policy.accumulator
        before, out = plan(images, weight)
        result = conv.deconvolve(images, weight, bias, strides, dilations, before, out, groups, acc=acc)
        return result.reshape(*x.shape[: -rank - 1], *result.shape[1:])

    def size(x: Array, weight: Array, bias: Array | None = None) -> int:
        images = _images(x, rank)
        full = conv.full_size(images.shape[2:], weight.shape[2:], strides, dilations)
        largest = max(prod(full), prod(plan(images, weight)[1]))
        return prod((len(images), weight.shape[1], groups, largest))

    def work(x: Array, weight: Array, bias: Array | None = None) -> int:
        return conv.deconvolution_work(_images(x, rank), weight, groups)

    return Layer(run, size=size, work=work)


def _bound(layer: Layer, weight: Array, bias: Array | None) -> Layer:
    constants = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return Layer(layer.run, constants, layer.size, layer.work)


def _convolution(p: Any, weights: Weights) -> Layer:
    kernel = positive(value(p, "kernelSize"), 2, "kernelSize")
    strides = positive(value(p, "stride"), 2, "stride")
    groups, outputs, channels = value(p, "nGroups"), int(p.outputChannels), int(p.kernelChannels)
    pads = _padding(p, "ConvolutionPaddingType")
    bias = weights.read(p.bias, (outputs,), "bias") if p.hasBias else None
    if p.isDeconvolution:
        weight = weights.read(p.weights, (channels, outputs // groups, *kernel), "weights", axis=1)
        target = tuple(p.outputShape[:3])
        if target:
            positive(target, 2, "outputShape")
        return _bound(_transposed(2, strides, (1, 1), groups, pads, target, weights), weight, bias)
    dilations = positive(value(p, "dilationFactor"), 2, "dilationFactor")
    layer = _sliding(2, strides, dilations, groups, pads, weights)
    if not p.HasField("weights"):  # the second input; it has no bias
        return Layer(layer.run, size=layer.size, work=layer.work, fewest=2, most=2)
    return _bound(layer, weights.read(p.weights, (outputs, channels, *kernel), "weights"), bias)


def _three(p: Any, prefix: str) -> Ints:
    sizes = tuple(int(getattr(p, prefix + axis)) for axis in _AXES)
    return positive(sizes, 3, prefix)


def _padding_3d(p: Any) -> tuple[str, Ints]:
    kind = choice(p, "paddingType")
    if kind != "CUSTOM":
        return kind.lower(), ()
    edges = ("Front", "Back", "Top", "Bottom", "Left", "Right")
    sizes = tuple(int(getattr(p, f"customPadding{edge}")) for edge in edges)
    return "custom", positive(sizes, 6, "customPadding", 0)


def _convolution_3d(p: Any, weights: Weights) -> Layer:
    kernel, strides, dilations = _three(p, "kernel"), _three(p, "stride"), _three(p, "dilation")
    inputs, outputs, groups = int(p.inputChannels), int(p.outputChannels), int(p.nGroups)
    if min(inputs, outputs, groups) < 1:
        raise DataError(f"channels and groups must be positive, got {inputs}, {outputs} and {groups}")
    bias = weights.read(p.bias, (outputs,), "bias") if p.hasBias else None
    if p.isDeconvolution:
        weight = weights.read(p.weights, (inputs, outputs // groups, *kernel), "weights", axis=1)
        target = tuple(p.outputShape[:4])
        if target:
            positive(target, 3, "outputShape")
        layer = _transposed(3, strides, dilations, groups, _padding_3d(p), target, weights)
        return _bound(layer, weight, bias)
    weight = weights.read(p.weights, (outputs, inputs // groups, *kernel), "weights")
    return _bound(_sliding(3, strides, dilations, groups, _padding_3d(p), weights), weight, bias)


def _pool(
    kind: str, windows: Callable[[Array], Windows], exclude_padding: bool, rank: int, weights: Weights
) -> Layer:
    def run(x: Array) -> Array:
        images, acc = _images(x, rank), weights.policy.accumulator
        where = windows(images)
        if kind == "MAX":
            result = pooling.largest_in(images, where)
        elif kind == "AVERAGE":
            result = pooling.mean_in(images, where, exclude_padding, acc=acc)
        else:
            result = np.sqrt(pooling.sum_in(np.square(images), where, acc=acc))
        return result.reshape(*x.shape[: -rank - 1], *result.shape[1:])

    def size(x: Array) -> int:
        images = _images(x, rank)
        return size_of(images, images.shape[1], windows(images))

    def work(x: Array) -> int:
        images = _images(x, rank)
        return pooling.pooling_work(images, windows(images))

    return Layer(run, size=size, work=work)


def _pooling(p: Any, weights: Weights) -> Layer:
    kind = choice(p, "type")
    if p.globalPooling:
        return _pool(kind, lambda x: slide(x.shape[2:], x.shape[2:]), True, 2, weights)
    kernel = positive(value(p, "kernelSize"), 2, "kernelSize")
    strides = positive(value(p, "stride"), 2, "stride")
    name, pad = _padding(p, "PoolingPaddingType")
    last = name == "last"

    def windows(x: Array) -> Windows:
        return slide(x.shape[2:], kernel, strides, "custom" if last else name, pad or None, ceil_mode=last)

    return _pool(kind, windows, p.avgPoolExcludePadding, 2, weights)


def _pooling_3d(p: Any, weights: Weights) -> Layer:
    kernel, strides, (name, pad) = _three(p, "kernel"), _three(p, "stride"), _padding_3d(p)

    def windows(x: Array) -> Windows:
        return slide(x.shape[2:], kernel, strides, name, pad or None)

    return _pool(choice(p, "type"), windows, p.countExcludePadding, 3, weights)


def _global_pooling_3d(p: Any, weights: Weights) -> Layer:
    return _pool(choice(p, "type"), lambda x: slide(x.shape[2:], x.shape[2:]), True, 3, weights)


LAYERS: Final[dict[str, Build]] = {
    "convolution": _convolution,
    "convolution3d": _convolution_3d,
    "pooling": _pooling,
    "pooling3d": _pooling_3d,
    "globalPooling3d": _global_pooling_3d,
}
