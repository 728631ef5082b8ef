"""Non-maximum suppression. Source: NonMaximumSuppression.proto (coremltools, mlmodel/format)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from device_sim.mil.kinds.binding import Bound, Run
from device_sim.mil.limits import Usage
from device_sim.mil.types import Array
from personality_common.coreml.features import Feature
from personality_common.errors import DataError


def non_maximum_suppression(bound: Bound) -> Run:
    """The boxes that no better one overlaps by more than `iouThreshold`, best first.

    Boxes whose best confidence is below `confidenceThreshold` are dropped before. Where the output's shape
    asks for more boxes there are zeros, where it allows fewer, the last ones are dropped.
    """
    p = bound.proto
    names = [f.name for f in bound.inputs], [f.name for f in bound.outputs]
    for fields, known in (
        (("confidenceInputFeatureName", "coordinatesInputFeatureName"), names[0]),
        (("confidenceOutputFeatureName", "coordinatesOutputFeatureName"), names[1]),
    ):
        for field in fields:
            if getattr(p, field) not in known:
                raise DataError(f"{field} {getattr(p, field)[:80]!r} is no feature of the model")
    per_class = p.pickTop.perClass
    leaving = [
        f for f in bound.outputs if f.name in (p.confidenceOutputFeatureName, p.coordinatesOutputFeatureName)
    ]
    least, most = _rows(leaving)

    def threshold(values: Mapping[str, Any], name: str, default: float) -> float:
        return float(np.asarray(values[name]).reshape(-1)[0]) if name and name in values else default

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        confidence = np.asarray(values[p.confidenceInputFeatureName], np.float64)
        boxes = np.asarray(values[p.coordinatesInputFeatureName], np.float64)
        if confidence.ndim != 2 or not confidence.shape[1] or boxes.shape != (len(confidence), 4):
            raise DataError(
                f"confidences must be (boxes, classes) and coordinates (boxes, 4), got "
                f"{confidence.shape} and {boxes.shape}"
            )
        iou = threshold(values, p.iouThresholdInputFeatureName, p.iouThreshold)
        floor = threshold(values, p.confidenceThresholdInputFeatureName, p.confidenceThreshold)
        best = confidence.max(axis=1)
        order = np.argsort(-best, kind="stable")
        order = order[best[order] >= floor]
        kept = _pick(boxes, confidence.argmax(axis=1) if per_class else None, order, iou, most, usage)
        rows = max(len(kept), least)
        usage.check_value(rows * (confidence.shape[1] + 4), 8, "its result")
        found = {}
        for name, source in (
            (p.confidenceOutputFeatureName, confidence),
            (p.coordinatesOutputFeatureName, boxes),
        ):
            found[name] = np.zeros((rows, source.shape[1]))
            found[name][: len(kept)] = source[kept]
        return found

    return run


def _rows(outputs: list[Feature]) -> tuple[int, int | None]:
    """Fewest and most boxes that the described shapes allow."""
    least, most = 0, None
    for feature in outputs:
        low, high = feature.ranges[0] if feature.ranges else (0, None)
        if not feature.ranges and not feature.enumerated and len(feature.shape) == 2:
            low = high = feature.shape[0]
        least = max(least, low)
        most = high if most is None else most if high is None else min(most, high)
    return least, most


def _pick(
    boxes: Array, classes: Array | None, order: Array, iou: float, most: int | None, usage: Usage
) -> list[int]:
    """Args: boxes: (boxes, 4), center x and y, width, height; order: indices, best first."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    areas = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    while len(order) and (most is None or len(kept) < most):
        usage.spend(16 * len(order))
        first, order = int(order[0]), order[1:]
        kept.append(first)
        sides = np.minimum(high[first], high[order]) - np.maximum(low[first], low[order])
        shared = np.maximum(sides, 0).prod(axis=1)
        union = areas[first] + areas[order] - shared
        close = shared > iou * union
        if classes is not None:
            close &= classes[order] == classes[first]
        order = order[~close]
    return kept
