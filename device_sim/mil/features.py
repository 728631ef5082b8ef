"""Inputs and outputs as a model's description states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sim.mil.types import Array
from personality_common.errors import DataError

_ARRAY_TYPES: Final = {
    65552: np.dtype(np.float16),
    65568: np.dtype(np.float32),
    65600: np.dtype(np.float64),
    131080: np.dtype(np.int8),
    131104: np.dtype(np.int32),
}
"""ArrayFeatureType.ArrayDataType."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A multi-array that a model takes or gives."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """The default one; empty if the description states none."""
    ranges: tuple[tuple[int, int | None], ...] = ()
    """Smallest and largest size of each axis (None: unbounded), if sizes may vary."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The shapes to choose from, if they are enumerated."""

    @property
    def allowed(self) -> str:
        """The shapes that may come, in words: `(1..64, 1536)`."""
        if self.shapes:
            return " or ".join(str(shape) for shape in self.shapes)
        if not self.ranges:
            return str(self.shape) if self.shape else "any"
        return f"({', '.join(_range(low, high) for low, high in self.ranges)})"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array may have this shape."""
        if self.shapes:
            return shape in self.shapes
        if not self.ranges:
            return not self.shape or shape == self.shape
        return len(shape) == len(self.ranges) and all(
            low <= size and (high is None or size <= high)
            for size, (low, high) in zip(shape, self.ranges, strict=True)
        )

    def check(self, value: Any) -> Array:
        """The value as an array of the feature's type.

        float64 becomes float32, and integers become int32 where they fit; floats never become
        integers or the other way round.

        Raises:
            DataError: rank, sizes or type do not fit.
        """
        array = np.asarray(value)
        if not self.accepts(array.shape):
            raise DataError(f"input {self.name!r} must have shape {self.allowed}, got {array.shape}")
        kinds = "f" if self.dtype.kind == "f" else "iu"
        if array.dtype.kind not in kinds:
            raise DataError(f"input {self.name!r} must be {self.dtype.name}, got {array.dtype.name}")
        if self.dtype.kind == "i" and array.size:
            bounds = np.iinfo(self.dtype)
            if array.min() < bounds.min or array.max() > bounds.max:
                raise DataError(
                    f"input {self.name!r} must fit {self.dtype.name}, got {array.min()} to {array.max()}"
                )
        with np.errstate(over="ignore"):
            return array.astype(self.dtype, copy=False)


def check_inputs(features: tuple[Feature, ...], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """All inputs by name, checked.

    Raises:
        DataError: one is missing, unknown, or does not fit its description.
    """
    expected = {feature.name for feature in features}
    if set(inputs) != expected:
        missing = sorted(expected - set(inputs))
        what = f"{missing} missing" if missing else f"{sorted(map(str, set(inputs) - expected))} not known"
        raise DataError(f"inputs must be {sorted(expected)}, got {sorted(map(str, inputs))}: {what}")
    return {feature.name: feature.check(inputs[feature.name]) for feature in features}


def read_features(descriptions: Any, where: str) -> tuple[Feature, ...]:
    """Read the inputs or the outputs of a `ModelDescription`.

    Raises:
        DataError: a feature that is not a multi-array, or named twice.
    """
    features = tuple(_feature(description, where) for description in descriptions)
    names = [feature.name for feature in features]
    if len(set(names)) != len(names):
        raise DataError(f"{where}: a feature is described twice: {sorted(names)[:8]}")
    return features


def _feature(description: Any, where: str) -> Feature:
    kind = description.type.WhichOneof("Type")
    name = description.name
    if kind == "stateType":
        array = description.type.stateType.arrayType
    elif kind == "multiArrayType":
        array = description.type.multiArrayType
    else:
        raise DataError(f"{where}: feature {name[:80]!r} must be a multi-array, it is {kind or 'of no type'}")
    dtype = _ARRAY_TYPES.get(array.dataType)
    if dtype is None:
        raise DataError(f"{where}: feature {name[:80]!r} has data type {array.dataType}, which is not supported")
    flexible = array.WhichOneof("ShapeFlexibility")
    ranges: tuple[tuple[int, int | None], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    if flexible == "shapeRange":
        ranges = tuple(
            (r.lowerBound, None if r.upperBound < 0 else r.upperBound) for r in array.shapeRange.sizeRanges
        )
    elif flexible == "enumeratedShapes":
        shapes = tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
    return Feature(name, dtype, tuple(array.shape), ranges, shapes)


def _range(low: int, high: int | None) -> str:
    return str(low) if low == high else f"{low}..{'' if high is None else high}"
