"""Hold inputs against a model's description of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from device_sim.mil.images import channels
from device_sim.mil.types import Array
from personality_common.coreml.features import Feature, features
from personality_common.errors import DataError


def accepts(feature: Feature, shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape may be this feature; any may, if the description states none."""
    if feature.enumerated:
        return shape in feature.enumerated
    if not feature.ranges:
        return not feature.shape or shape == feature.shape
    return len(shape) == len(feature.ranges) and all(
        low <= size and (high is None or size <= high)
        for size, (low, high) in zip(shape, feature.ranges, strict=True)
    )


def check_inputs(described: tuple[Feature, ...], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """All inputs by name, as arrays of the described types.

    float64 becomes float32, and integers become int32 where they fit; floats never become
    integers, or the other way round.

    Raises:
        DataError: one is missing, unknown, or of another shape or type than described.
    """
    expected = {feature.name for feature in described}
    if set(inputs) != expected:
        missing = sorted(expected - set(inputs))
        what = f"{missing} missing" if missing else f"{sorted(map(str, set(inputs) - expected))} not known"
        raise DataError(f"inputs must be {sorted(expected)}, got {sorted(map(str, inputs))}: {what}")
    return {feature.name: _check(feature, inputs[feature.name]) for feature in described}


def _check(feature: Feature, value: Any) -> Array:
    array = np.asarray(value)
    if feature.type == "image":
        return _check_image(feature, array)
    dtype = np.dtype(feature.dtype)
    if not accepts(feature, array.shape):
        raise DataError(f"input {feature.name!r} must have shape {feature.shape_text}, got {array.shape}")
    if array.dtype.kind not in ("f" if dtype.kind == "f" else "iu"):
        raise DataError(f"input {feature.name!r} must be {dtype.name}, got {array.dtype.name}")
    if dtype.kind == "i" and array.size:
        bounds = np.iinfo(dtype)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise DataError(
                f"input {feature.name!r} must fit {dtype.name}, got {array.min()} to {array.max()}"
            )
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def _check_image(feature: Feature, array: Array) -> Array:
    """Pixels (channels, height, width) from 0 to 255, in the color space that is described."""
    count = channels(feature)
    if array.ndim != 3 or array.shape[0] != count or not accepts(feature, array.shape[1:]):
        raise DataError(
            f"image {feature.name!r} must have {count} channels of {feature.shape_text} in {feature.dtype}, "
            f"got {array.shape}"
        )
    if array.dtype.kind not in "fiu" or (array.size and not 0 <= array.min() <= array.max() <= 255):
        raise DataError(f"image {feature.name!r} must have pixels from 0 to 255, got {array.dtype.name}")
    return array.astype(np.float32)


def read_arrays(descriptions: Any, others: tuple[str, ...] = ()) -> tuple[Feature, ...]:
    """Features that must be multi-arrays, from `spec.description.input` or `.output`.

    Args:
        others: types that they may be, too.

    Raises:
        DataError: one is something else, of an unknown type, or described twice.
    """
    found = features(descriptions)
    for feature in found:
        if feature.type == "image" and "image" in others:
            channels(feature)
        if feature.type in others:
            continue
        if feature.type != "multiArray":
            raise DataError(f"feature {feature.name[:80]!r} must be a multi-array, it is {feature.type}")
        if feature.dtype not in ("float16", "float32", "float64", "int8", "int32"):
            raise DataError(f"feature {feature.name[:80]!r} has elements of {feature.dtype}, not supported")
    names = [feature.name for feature in found]
    if len(set(names)) != len(names):
        raise DataError(f"a feature is described twice: {sorted(names)[:8]}")
    return found
