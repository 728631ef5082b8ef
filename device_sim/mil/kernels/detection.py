"""Non-maximum suppression. Source: coremltools, mil/ops/defs/iOS15/tensor_operation.py, iOS17."""

from __future__ import annotations

import numpy as np

from device_sim.mil.limits import ITERATION_WORK
from device_sim.mil.registry import op
from device_sim.mil.types import Array, prod


def suppress(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    score_threshold: float,
    max_boxes: int,
    per_class: bool,
) -> tuple[Array, ...]:
    """Boxes of the best classes, best first, without those that overlap a better one.

    Args:
        boxes: (N, B, 4), centre x and y, width and height.
        scores: (N, B, classes).

    Returns:
        boxes (N, max_boxes, 4), scores (N, max_boxes, classes), indices (N, max_boxes), and how many
        were chosen (N,). The rest is 0, its indices -1.
    """
    count = scores.shape[2]
    chosen_boxes = np.zeros((len(boxes), max_boxes, 4), boxes.dtype)
    chosen_scores = np.zeros((len(boxes), max_boxes, count), scores.dtype)
    indices = np.full((len(boxes), max_boxes), -1, np.int32)
    counts = np.zeros(len(boxes), np.int32)
    for i in range(len(boxes)):
        best, label = scores[i].max(axis=1), scores[i].argmax(axis=1)
        order = np.argsort(-best, kind="stable")
        order = order[best[order] >= score_threshold]
        kept = _keep(boxes[i], label, order, iou_threshold, max_boxes, per_class)
        chosen_boxes[i, : len(kept)] = boxes[i, kept]
        chosen_scores[i, : len(kept)] = scores[i, kept]
        indices[i, : len(kept)], counts[i] = kept, len(kept)
    return chosen_boxes, chosen_scores, indices, counts


def _keep(
    boxes: Array, label: Array, order: Array, iou_threshold: float, most: int, per_class: bool
) -> list[int]:
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    areas = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(high[best], high[order]) - np.maximum(low[best], low[order])
        common = np.maximum(sides, 0).prod(axis=1)
        union = areas[best] + areas[order] - common
        overlaps = common > iou_threshold * union
        if per_class:
            overlaps &= label[order] == label[best]
        order = order[~overlaps]
    return kept


def _check(boxes: Array, scores: Array, max_boxes: int, four: int, many: int) -> int:
    """Boxes; `four` and `many` are the axes of coordinates and of boxes."""
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[four] != 4 or max_boxes < 0:
        raise ValueError(
            f"boxes and scores of rank 3 with four coordinates are expected, "
            f"got {list(boxes.shape)} and {list(scores.shape)}, max_boxes {max_boxes}"
        )
    if len(boxes) != len(scores) or boxes.shape[many] != scores.shape[many] or not scores.shape[four]:
        raise ValueError(f"boxes{list(boxes.shape)} and scores{list(scores.shape)} do not fit each other")
    return int(boxes.shape[many])


def _size(boxes: Array, scores: Array, max_boxes: int, **_: object) -> int:
    _check(boxes, scores, max_boxes, 2, 1)
    return max(boxes.size, scores.size, prod((len(boxes), max_boxes, max(4, scores.shape[2]))))


def _work(boxes: Array, scores: Array, max_boxes: int, **_: object) -> int:
    count = _check(boxes, scores, max_boxes, 2, 1)
    return prod((len(boxes), min(max_boxes, count) + 1, 16 * 16 * count + ITERATION_WORK))


@op("non_maximum_suppression", size=_size, work=_work)
def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    score_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[Array, ...]:
    return suppress(boxes, scores, iou_threshold, score_threshold, max_boxes, per_class_suppression)


def _size_17(boxes: Array, scores: Array, max_boxes: int, **_: object) -> int:
    _check(boxes, scores, max_boxes, 1, 2)
    return max(boxes.size, scores.size, prod((len(boxes), max_boxes, max(4, scores.shape[1]))))


def _work_17(boxes: Array, scores: Array, max_boxes: int, **_: object) -> int:
    count = _check(boxes, scores, max_boxes, 1, 2)
    return prod((len(boxes), min(max_boxes, count) + 1, 16 * 16 * count + ITERATION_WORK))


@op("non_maximum_suppression", "iOS17", size=_size_17, work=_work_17)
def non_maximum_suppression_17(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[Array, ...]:
    """boxes (N, 4, B), scores (N, classes, B), and so are those that are chosen."""
    found = suppress(
        boxes.swapaxes(1, 2),
        scores.swapaxes(1, 2),
        iou_threshold,
        -np.inf,
        max_boxes,
        per_class_suppression,
    )
    return found[0].swapaxes(1, 2), found[1].swapaxes(1, 2), found[2]
