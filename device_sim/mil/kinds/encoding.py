"""Categories to numbers and back: one-hot encoder, categorical mapping, dictionary vectorizer.

Source: OneHotEncoder.proto, CategoricalMapping.proto, DictVectorizer.proto (coremltools, mlmodel/format).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from device_sim.mil.kinds.binding import Bound, Run
from device_sim.mil.limits import Usage
from personality_common.errors import DataError

_IGNORE_UNKNOWN: Final = 1


def _index(bound: Bound, oneof: str) -> dict[Any, int]:
    """Position by category."""
    kind = bound.proto.WhichOneof(oneof)
    if kind is None:
        raise DataError(f"{oneof}: none is given")
    vector = getattr(bound.proto, kind).vector
    found = {category: at for at, category in bound.clocked(vector)}
    if len(found) != len(vector):
        raise DataError(f"{kind}: a category is given twice")
    return found


def _absent(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:80] + '…'} is not among the model's categories"


def one_hot_encoder(bound: Bound) -> Run:
    """An array with a 1 at the category, or a dictionary of that entry; an unknown one is none or refused."""
    index = _index(bound, "CategoryType")
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")
    strict = bound.proto.handleUnknown != _IGNORE_UNKNOWN

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        value = values.get(enter.name)
        at = index.get(value)
        if at is None and strict:
            raise DataError(f"input {enter.name[:80]!r}: {_absent(value)}")
        if bound.proto.outputSparse:
            return {leave.name: {} if at is None else {at: 1.0}}
        usage.check_value(len(index), 8, "its result")
        array = np.zeros(len(index))
        if at is not None:
            array[at] = 1
        return {leave.name: array}

    return run


def categorical_mapping(bound: Bound) -> Run:
    """A string for an integer, or the other way round; the default for unknown ones, or an error."""
    proto, kind = bound.proto, bound.proto.WhichOneof("MappingType")
    if kind is None:
        raise DataError("MappingType: none is given")
    mapping = dict(getattr(proto, kind).map)
    unknown = proto.WhichOneof("ValueOnUnknown")
    wanted = "int64Value" if kind == "stringToInt64Map" else "strValue"
    if unknown not in (None, wanted):
        raise DataError(f"ValueOnUnknown: {wanted} goes with {kind}, got {unknown}")
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], _: Usage) -> dict[str, Any]:
        value = values.get(enter.name)
        if value in mapping:
            return {leave.name: mapping[value]}
        if unknown is None:
            raise DataError(f"input {enter.name[:80]!r}: {_absent(value)}")
        return {leave.name: getattr(proto, unknown)}

    return run


def dict_vectorizer(bound: Bound) -> Run:
    """A dictionary as an array (or a dictionary by position): its values where the index has their keys."""
    index = _index(bound, "Map")
    enter, leave = bound.one(bound.inputs, "input"), bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        entries = values.get(enter.name, {})
        if unknown := [key for key in entries if key not in index]:
            raise DataError(f"input {enter.name[:80]!r}: {_absent(unknown[0])}")
        if leave.type == "dictionary":
            return {leave.name: {index[key]: value for key, value in entries.items()}}
        usage.check_value(len(index), 8, "its result")
        array = np.zeros(len(index))
        for key, value in entries.items():
            array[index[key]] = value
        return {leave.name: array}

    return run
