"""Layers on the last two axes as those of an image: crops, borders, sizes, boxes."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import image_resizing as resizing
from device_sim.mil.kernels import shape as shapes
from device_sim.mil.layers.convolution import borders, positive
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import Build, Layer, choice, integers, kernel, rank_at_least, scalar
from device_sim.mil.layers.weights import Weights
from device_sim.mil.limits import ITERATION_WORK
from device_sim.mil.types import Array, Ints, prod
from personality_common.errors import DataError

_SAMPLING: Final = {
    "STRICT_ALIGN_ENDPOINTS_MODE": "STRICT_ALIGN_CORNERS",
    "ALIGN_ENDPOINTS_MODE": "ALIGN_CORNERS",
    "UPSAMPLE_MODE": "DEFAULT",
    "ROI_ALIGN_MODE": "OFFSET_CORNERS",
}
"""The format's modes as MIL names them."""
_UPSAMPLING: Final = {
    "DEFAULT": "DEFAULT",
    "ALIGN_CORNERS_TRUE": "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS_FALSE": "UNALIGN_CORNERS",
}


def _crop(p: Any, weights: Weights) -> Layer:
    """By amounts; with a second input, to its size from an offset on."""
    (top, bottom), (left, right) = borders(p.cropAmounts)
    offset = tuple(p.offset[:3]) or (0, 0)

    def run(x: Array, like: Array | None = None) -> Array:
        rank_at_least(x, 3)
        if like is None:
            return resizing.crop(x, (top, bottom), (left, right))
        height, width = positive(offset, 2, "offset", 0)
        sizes = rank_at_least(like, 3).shape[-2:]
        if height + sizes[0] > x.shape[-2] or width + sizes[1] > x.shape[-1]:
            raise DataError(f"{list(sizes)} from {list(offset)} on leave {list(x.shape)}")
        return x[..., height : height + sizes[0], width : width + sizes[1]]

    return Layer(run, most=2)


def _padding(p: Any, weights: Weights) -> Layer:
    modes = {"constant": "constant", "reflection": "reflect", "replication": "replicate"}
    kind = p.WhichOneof("PaddingType")
    if kind is None:
        raise DataError("PaddingType must be set")
    amounts = tuple(size for pair in borders(p.paddingAmounts) for size in pair)
    return kernel(
        weights,
        "pad",
        lambda x: {"x": x, "pad": amounts, "mode": modes[kind], "constant_val": p.constant.value},
    )


def _resize(out: Any, mode: str) -> Layer:
    return Layer(
        lambda x: resizing.linear_resize(x, out(x), mode),
        size=lambda x: resizing.resized_size(rank_at_least(x, 2), out(x)),
    )


def _upsample(p: Any, weights: Weights) -> Layer:
    field = "fractionalScalingFactor" if p.fractionalScalingFactor else "scalingFactor"
    factors = value(p, field)
    if len(factors) != 2 or not all(math.isfinite(f) and 0 < f < 1 << 31 for f in factors):
        raise DataError(f"{field} must be two positive factors, got {list(factors)}")

    def out(x: Array) -> Ints:
        sizes = tuple(math.floor(s * f) for s, f in zip(rank_at_least(x, 2).shape[-2:], factors, strict=True))
        if min(sizes) < 1:
            raise ValueError(f"x{list(x.shape)} scaled by {list(factors)} has no elements")
        return sizes

    if choice(p, "mode") == "BILINEAR":
        return _resize(out, _UPSAMPLING[choice(p, "linearUpsampleMode")])
    return Layer(
        lambda x: resizing.nearest_resize(x, out(x), "DEFAULT"),
        size=lambda x: resizing.resized_size(x, out(x)),
    )


def _resize_bilinear(p: Any, weights: Weights) -> Layer:
    target = positive(value(p, "targetSize"), 2, "targetSize")
    return _resize(lambda x: target, _SAMPLING[choice(p.mode, "samplingMethod")])


def _spread(low: float, high: float, count: int, mode: str, size: int) -> Array:
    """Points between two ends, sampled as `SamplingMode` says of [0, X - 1] with X = high - low + 1.

    Source: NeuralNetwork.proto, and coremltools' `crop_resize` (mil/ops/defs/iOS15/image_resizing.py).
    """
    extent = high - low + 1
    if mode == "STRICT_ALIGN_CORNERS" or (mode == "ALIGN_CORNERS" and count > 1):
        points = low + np.arange(count) * ((extent - 1) / max(1, count - 1))
    elif mode == "ALIGN_CORNERS":
        points = np.full(1, low + (extent - 1) / 2)
    elif mode == "DEFAULT":
        points = low + np.arange(count) * ((extent - extent / count) / max(1, count - 1))
    else:
        spacing = max(1.0, extent - 1) / count
        points = low + (np.arange(count) + 0.5) * spacing
    inside: Array = np.clip(points, 0, size - 1)
    return inside


def _corners(box: Array, mode: str) -> tuple[float, float, float, float]:
    """Height and width of the start, then of the end."""
    a, b, c, d = map(float, box)
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CENTER_SIZE"):
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _crop_resize(p: Any, weights: Weights) -> Layer:
    """x (1, B, C, H, W), boxes (N, 1, 4 or 5, 1, 1); gives (N, B or 1, C, *target)."""
    target = positive(value(p, "targetSize"), 2, "targetSize")
    scale, mode = value(p, "spatialScale"), _SAMPLING[choice(p.mode, "samplingMethod")]
    boxes_mode = choice(p.boxIndicesMode, "boxMode")

    def check(x: Array, boxes: Array) -> bool:
        """Whether the boxes name their image."""
        if (
            x.ndim != 5
            or len(x) != 1
            or boxes.ndim != 5
            or boxes.shape[1:] not in ((1, 4, 1, 1), (1, 5, 1, 1))
        ):
            raise DataError(
                f"x [1, B, C, H, W] and boxes [N, 1, 4 or 5, 1, 1] are expected, "
                f"got {list(x.shape)} and {list(boxes.shape)}"
            )
        return bool(boxes.shape[2] == 5)

    def run(x: Array, boxes: Array) -> Array:
        named = check(x, boxes)
        height, width = x.shape[-2:]
        result = np.empty((len(boxes), 1 if named else x.shape[1], x.shape[2], *target), x.dtype)
        for n, row in enumerate(boxes.reshape(len(boxes), -1)):
            images = x[0]
            if named:
                index = int(integers(row[:1])[0])
                if not 0 <= index < x.shape[1]:
                    raise DataError(f"a box is of image {index}, there are {x.shape[1]}")
                images = x[0, index : index + 1]
            if not np.isfinite(row).all():
                raise DataError("boxes must be finite")
            ends = [v * scale for v in _corners(row[-4:], boxes_mode)]
            if p.normalizedCoordinates:
                ends = [v * s for v, s in zip(ends, (height - 1, width - 1) * 2, strict=True)]
            for axis, (low, high, count) in enumerate(zip(ends[:2], ends[2:], target, strict=True), start=-2):
                points = _spread(low, high, count, mode, x.shape[axis])
                images = resizing.interpolate(images, points, axis)
            result[n] = images
        return result

    def size(x: Array, boxes: Array) -> int:
        check(x, boxes)
        return prod((max(1, len(boxes)), *x.shape[1:3], target[0], max(target[1], x.shape[-1])))

    return Layer(run, size=size, work=lambda x, boxes: len(boxes) * ITERATION_WORK, fewest=2, most=2)


def _reorganize(p: Any, weights: Weights) -> Layer:
    block, mode = int(p.blockSize), choice(p, "mode")
    if block < 2:
        raise DataError(f"blockSize must be 2 or more, got {block}")

    def run(x: Array) -> Array:
        channels, height, width = rank_at_least(x, 3).shape[-3:]
        images = x.reshape(-1, channels, height, width)
        if mode == "PIXEL_SHUFFLE":
            result = shapes.pixel_shuffle(images, block)
        elif mode == "DEPTH_TO_SPACE":  # the block is the slower axis of the channels
            if channels % (block * block):
                raise ValueError(f"{channels} channels cannot be divided by blockSize {block} squared")
            split = images.reshape(len(images), block, block, -1, height, width)
            result = split.transpose(0, 3, 4, 1, 5, 2).reshape(len(images), -1, height * block, width * block)
        else:
            if height % block or width % block:
                raise ValueError(f"sizes {height} and {width} cannot be divided by blockSize {block}")
            split = images.reshape(len(images), channels, height // block, block, width // block, block)
            result = split.transpose(0, 3, 5, 1, 2, 4)
            result = result.reshape(len(images), -1, height // block, width // block)
        return result.reshape(*x.shape[:-3], *result.shape[1:])

    return Layer(run)


def _overlap(box: Array, boxes: Array) -> Array:
    """Intersection over union of one box with others; boxes are (…, 4): centre and size."""
    low = np.maximum(box[:2] - box[2:] / 2, boxes[:, :2] - boxes[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2)
    common = np.maximum(high - low, 0).prod(axis=1)
    union = box[2:].prod() + boxes[:, 2:].prod(axis=1) - common
    share: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return share


def _survivors(boxes: Array, scores: Array, iou: float, least: float, most: int, by_class: bool) -> list[int]:
    """Indices of boxes (N, 4) with scores (N, C), best first; at least one."""
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    order = np.argsort(-best, kind="stable")
    left = order[best[order] > least]
    if not left.size:
        return [int(order[0])]
    kept: list[int] = []
    while left.size and len(kept) < most:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        hit = _overlap(boxes[first], boxes[left]) > iou
        if by_class:
            hit &= classes[left] == classes[first]
        left = left[~hit]
    return kept


def _nms(p: Any, weights: Weights) -> Layer:
    """boxes (B, N, 4), scores (B, N, C); gives them sorted and padded, their indices, and how many."""

    def bound(given: tuple[Array, ...]) -> tuple[float, float, int]:
        iou = scalar(given[0]) if given else p.iouThreshold
        least = scalar(given[1]) if len(given) > 1 else p.scoreThreshold
        most = int(integers(np.asarray(scalar(given[2])))) if len(given) > 2 else int(p.maxBoxes)
        if most < 1:
            raise DataError(f"maxBoxes must be positive, got {most}")
        return iou, least, most

    def check(boxes: Array, scores: Array) -> None:
        if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape != (*scores.shape[:2], 4) or not scores.size:
            raise DataError(
                f"boxes [B, N, 4] and scores [B, N, C] are expected, "
                f"got {list(boxes.shape)} and {list(scores.shape)}"
            )

    def run(boxes: Array, scores: Array, *given: Array) -> tuple[Array, ...]:
        check(boxes, scores)
        iou, least, most = bound(given)
        batch, _, classes = scores.shape
        out_boxes = np.zeros((batch, most, 4), boxes.dtype)
        out_scores = np.zeros((batch, most, classes), scores.dtype)
        indices, counts = np.full((batch, most), -1), np.zeros(batch)
        for b in range(batch):
            kept = _survivors(boxes[b], scores[b], iou, least, most, p.perClassSuppression)
            counts[b] = len(kept)
            out_boxes[b, : len(kept)], out_scores[b, : len(kept)] = boxes[b, kept], scores[b, kept]
            indices[b, : len(kept)] = kept
        return out_boxes, out_scores, indices, counts

    def size(boxes: Array, scores: Array, *given: Array) -> int:
        check(boxes, scores)
        return int(scores.shape[0] * bound(given)[2] * max(4, scores.shape[2]) + boxes.size + scores.size)

    def work(boxes: Array, scores: Array, *given: Array) -> int:
        check(boxes, scores)
        rounds = int(min(bound(given)[2], scores.shape[1]))
        return int(scores.shape[0]) * rounds * (ITERATION_WORK + 16 * 8 * int(scores.shape[1]))

    return Layer(run, size=size, work=work, fewest=2, most=5, gives=(4, 4))


LAYERS: Final[dict[str, Build]] = {
    "crop": _crop,
    "padding": _padding,
    "upsample": _upsample,
    "resizeBilinear": _resize_bilinear,
    "cropResize": _crop_resize,
    "reorganizeData": _reorganize,
    "NonMaximumSuppression": _nms,
}
