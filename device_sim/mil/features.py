"""Hold inputs against a model's description of them.

What stands for a feature in Python: an array for a multi-array; an array (channels, height, width) from 0 to
255 for an image; `str`, `int` and `float` for string, int64 and double; `dict` from `str` or `int` to `float`
for a dictionary; a list of `str` or `int` for a sequence. A class label is a `str` or an `int`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from device_sim.mil.images import channels
from device_sim.mil.types import Array, extent
from personality_common.coreml.features import Feature, features
from personality_common.errors import DataError

Value: TypeAlias = Any
"""See above."""
ARRAYS: Final = ("float16", "float32", "float64", "int8", "int32")
OTHERS: Final = ("string", "int64", "double", "dictionary", "sequence")
"""Types that are neither multi-array nor image."""
CLASSES: Final = ("string", "int64", "dictionary")
"""What a classifier gives beside arrays: a label, and scores by label."""
MAX_DEFAULT: Final = 1 << 24
"""Elements of an array that a default value fills."""
_INT64: Final = range(-(1 << 63), 1 << 63)


def check_inputs(described: tuple[Feature, ...], inputs: Mapping[str, Any]) -> dict[str, Value]:
    """All inputs by name, as the described types.

    float64 becomes float32, and integers become int32 where they fit; floats never become
    integers, or the other way round. An optional input that is left out is its default value; without one,
    it is left out of the result.

    Raises:
        DataError: one is missing, unknown, or of another shape or type than described.
    """
    expected = {feature.name for feature in described}
    required = {feature.name for feature in described if not feature.optional}
    if not required <= set(inputs) <= expected:
        missing = sorted(required - set(inputs))
        what = f"{missing} missing" if missing else f"{sorted(map(str, set(inputs) - expected))} not known"
        raise DataError(f"inputs must be {sorted(expected)}, got {sorted(map(str, inputs))}: {what}")
    checked = {}
    for feature in described:
        if feature.name in inputs:
            checked[feature.name] = check_value(feature, inputs[feature.name], "input")
        elif feature.default is not None:
            checked[feature.name] = filled(feature, feature.default)
    return checked


def filled(feature: Feature, value: float) -> Array:
    """The array of an optional input that was left out.

    Raises:
        DataError: its default shape is beyond the limit.
    """
    shape = feature.shape or next(iter(feature.enumerated), ()) or tuple(low for low, _ in feature.ranges)
    if any(size < 0 for size in shape) or extent(shape) > MAX_DEFAULT:
        raise DataError(f"input {feature.name!r} has a default value of shape {list(shape)}; give the array")
    return np.full(shape, value, np.dtype(feature.dtype))


def check_value(feature: Feature, value: Any, what: str) -> Value:
    """A value as its feature is described.

    Args:
        what: `input` or `output`, for messages.

    Raises:
        DataError: of another type, shape or range.
    """
    if feature.type == "multiArray":
        return _check_array(feature, np.asarray(value), what)
    if feature.type == "image":
        return _check_image(feature, np.asarray(value))
    where = f"{what} {feature.name!r}"
    if feature.type == "dictionary":
        if not isinstance(value, Mapping):
            raise DataError(f"{where} must be a dictionary of numbers by {feature.dtype}, got {_got(value)}")
        key = _scalar_type(feature.dtype)
        return {_scalar(key, k, f"a key of {where}"): _scalar("double", v, where) for k, v in value.items()}
    if feature.type == "sequence":
        if not isinstance(value, list | tuple | np.ndarray):
            raise DataError(f"{where} must be a list of {feature.dtype}, got {_got(value)}")
        if feature.ranges and not feature.accepts((len(value),)):
            raise DataError(f"{where} must have a length in {feature.shape_text}, got {len(value)}")
        return [_scalar(_scalar_type(feature.dtype), item, f"an item of {where}") for item in value]
    return _scalar(feature.type, value, where)


def _scalar_type(dtype: str | None) -> str:
    return "int64" if dtype == "int64" else "string"


def _scalar(kind: str, value: Any, where: str) -> str | int | float:
    """One string, integer or number; a NumPy array of one element is one."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.reshape(-1)[0].item()
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "int64" and isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
        return value
    if kind == "double" and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    wanted = {"string": "a string", "int64": "a whole number of 64 bits", "double": "a number"}[kind]
    raise DataError(f"{where} must be {wanted}, got {_got(value)}")


def _got(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 60 else text[:60] + "…"


def _check_array(feature: Feature, array: Array, what: str) -> Array:
    dtype = np.dtype(feature.dtype)
    if not feature.accepts(array.shape):
        raise DataError(f"{what} {feature.name!r} must have shape {feature.shape_text}, got {array.shape}")
    if array.dtype.kind not in ("f" if dtype.kind == "f" else "iu"):
        raise DataError(f"{what} {feature.name!r} must be {dtype.name}, got {array.dtype.name}")
    if dtype.kind == "i" and array.size:
        bounds = np.iinfo(dtype)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise DataError(
                f"{what} {feature.name!r} must fit {dtype.name}, got {array.min()} to {array.max()}"
            )
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def _check_image(feature: Feature, array: Array) -> Array:
    """Pixels (channels, height, width) from 0 to 255, in the color space that is described."""
    count = channels(feature)
    if array.ndim != 3 or array.shape[0] != count or not feature.accepts(array.shape[1:]):
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
        if feature.dtype not in ARRAYS:
            raise DataError(f"feature {feature.name[:80]!r} has elements of {feature.dtype}, not supported")
    names = [feature.name for feature in found]
    if len(set(names)) != len(names):
        raise DataError(f"a feature is described twice: {sorted(names)[:8]}")
    return found
