"""Transformers of numbers: vectorizer, imputer, scaler, normalizer, extractor, identity.

Source: FeatureVectorizer.proto, Imputer.proto, Scaler.proto, Normalizer.proto, ArrayFeatureExtractor.proto,
Identity.proto (coremltools, mlmodel/format).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from device_sim.mil.kinds.binding import Bound, Run
from device_sim.mil.limits import Usage
from device_sim.mil.types import Array
from personality_common.errors import DataError

_NORMS: Final = {
    0: lambda x: x.max(),
    1: lambda x: np.abs(x).sum(),
    2: lambda x: np.sqrt((x * x).sum()),
}
"""`NormType`: the greatest number, with its sign; L1; L2."""


def _floats(value: Any) -> Array:
    return np.asarray(value, np.float64)


def feature_vectorizer(bound: Bound) -> Run:
    """Numbers, arrays and dictionaries by position, one after the other in one array."""
    columns = [(column.inputColumn, int(column.inputDimensions)) for column in bound.proto.inputList]
    total = sum(size for _, size in columns)
    bound.usage.check_value(total, 8, "inputDimensions: the array")
    known = {feature.name for feature in bound.inputs}
    if unknown := [name for name, _ in columns if name not in known]:
        raise DataError(f"inputColumn {unknown[0][:80]!r} is no input of the model")
    leave = bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        usage.check_value(total, 8, "its result")
        array, start = np.zeros(total), 0
        for name, size in columns:
            value = values.get(name)
            part = array[start : start + size]
            start += size
            if value is None:
                raise DataError(f"input {name[:80]!r} is left out, and inputColumn has no value in its place")
            if isinstance(value, Mapping):
                for at, number in value.items():
                    if not isinstance(at, int) or not 0 <= at < size:
                        raise DataError(
                            f"input {name[:80]!r}: its keys must be 0 to {size - 1}, got {str(at)[:40]!r}"
                        )
                    part[at] = number
                continue
            numbers = _floats(value).reshape(-1)
            if numbers.size != size:
                raise DataError(f"input {name[:80]!r} has {numbers.size} numbers, inputDimensions is {size}")
            part[:] = numbers
        return {leave.name: array}

    return run


def imputer(bound: Bound) -> Run:
    """The imputed value for an input that is left out, and for what stands for a missing one."""
    proto = bound.proto
    kind, replaced = proto.WhichOneof("ImputedValue"), proto.WhichOneof("ReplaceValue")
    if kind is None:
        raise DataError("ImputedValue: none is given")
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")
    imputed = getattr(proto, kind)
    of_array, of_dictionary = kind.endswith("Array"), kind.endswith("Dictionary")
    if of_array:
        imputed = bound.held(imputed.vector, kind, np.float64 if "Double" in kind else np.int64)
    elif of_dictionary:
        imputed = dict(imputed.map)
    marker = getattr(proto, replaced) if replaced else None

    def missing(value: Any) -> bool:
        return replaced is not None and (value == marker or (value != value and marker != marker))

    def run(values: Mapping[str, Any], _: Usage) -> dict[str, Any]:
        value = values.get(enter.name)
        if value is None:
            return {leave.name: imputed}
        if isinstance(value, Mapping):
            if not of_dictionary:
                raise DataError(f"input {enter.name[:80]!r} is a dictionary, ImputedValue is {kind}")
            gone = [key for key, number in value.items() if missing(number)]
            if unknown := [key for key in gone if key not in imputed]:
                raise DataError(f"{kind} has no value for {str(unknown[0])[:80]!r}")
            return {leave.name: {**value, **{key: imputed[key] for key in gone}}}
        if isinstance(value, np.ndarray):
            if isinstance(marker, str) or of_dictionary or isinstance(imputed, str):
                raise DataError(
                    f"input {enter.name[:80]!r} is an array, the imputer is for {kind} and {replaced}"
                )
            if of_array and imputed.size != value.size:
                raise DataError(f"{kind} has {imputed.size} values, input {enter.name[:80]!r} {value.size}")
            if replaced is None:
                return {leave.name: value}
            gone_at = np.isnan(value) if marker != marker else value == marker
            return {
                leave.name: np.where(gone_at, imputed.reshape(value.shape) if of_array else imputed, value)
            }
        if of_array or of_dictionary:
            raise DataError(f"input {enter.name[:80]!r} is one value, ImputedValue is {kind}")
        return {leave.name: imputed if missing(value) else value}

    return run


def scaler(bound: Bound) -> Run:
    """scale * (x + shift); 1 and 0 where they are not given; one number for all, or one for each."""
    shift, scale = (
        bound.held(bound.proto.shiftValue, "shiftValue"),
        bound.held(bound.proto.scaleValue, "scaleValue"),
    )
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")

    def fitted(numbers: Array, default: float, x: Array, field: str) -> Array:
        if numbers.size not in (0, 1, x.size):
            raise DataError(f"{field} has {numbers.size} values, input {enter.name[:80]!r} {x.size}")
        if numbers.size <= 1:
            return np.asarray(numbers[0] if numbers.size else default)
        return numbers.reshape(x.shape)

    def run(values: Mapping[str, Any], _: Usage) -> dict[str, Any]:
        x = _floats(values.get(enter.name, np.nan))
        return {leave.name: fitted(scale, 1, x, "scaleValue") * (x + fitted(shift, 0, x, "shiftValue"))}

    return run


def normalizer(bound: Bound) -> Run:
    """An array divided by its norm; one of zeros stays as it is."""
    norm = _NORMS.get(bound.proto.normType)
    if norm is None:
        raise DataError(f"normType {bound.proto.normType} is not one that the format has")
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], _: Usage) -> dict[str, Any]:
        x = _floats(values.get(enter.name, np.nan))
        size = norm(x) if x.size else 1.0
        return {leave.name: x / (size if size else 1.0)}

    return run


def array_feature_extractor(bound: Bound) -> Run:
    """The elements at some indices, counted through the array row by row."""
    indices = bound.held(bound.proto.extractIndex, "extractIndex", np.uint64)
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        x = np.asarray(values.get(enter.name, np.zeros(0))).reshape(-1)
        if indices.size and int(indices.max()) >= x.size:
            raise DataError(
                f"extractIndex {indices.max()} is beyond input {enter.name[:80]!r} of {x.size} elements"
            )
        usage.check_value(indices.size, 8, "its result")
        return {leave.name: x[indices.astype(np.intp)]}

    return run


def identity(bound: Bound) -> Run:
    """Its inputs, as the outputs of the same names, or in their order."""
    enter, leave = [f.name for f in bound.inputs], [f.name for f in bound.outputs]
    if len(enter) != len(leave):
        raise DataError(f"an identity has as many outputs as inputs, got {len(enter)} and {len(leave)}")
    source = (
        {name: name for name in leave} if set(enter) == set(leave) else dict(zip(leave, enter, strict=True))
    )
    return lambda values, _: {name: values[source[name]] for name in leave if source[name] in values}
