"""A readable description of a character, a scene and an event <-> the vector of 453 features."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from pretrain.character.schema import FEATURES, Choice, Group, Number, Region, Schema

Features = NDArray[np.float32]
Description = Mapping[str, Any]

NAME: Final = "name"
"""Who it is: of use to a prompt, not to the vector."""


def encode(description: Description, schema: Schema) -> Features:
    """The vector of a description, (453,) float32; see `encode_values`."""
    return np.array(encode_values(description, schema), np.float32)


def encode_values(description: Description, schema: Schema) -> list[float]:
    """The 453 numbers of a description.

    Args:
        description: an object with a key per region: see `Region.keys` for how each is filled. `axes`,
            `emotions`, `relations` and `history` may be left out, and are then empty.
        schema: decides the slots of the axes.

    Raises:
        DataError: a field is missing, unknown, of the wrong type or out of its range; the message has its
            path, what is allowed and what arrived.
    """
    _require_object(description, "the description")
    _require_known(description, (*schema.region_offsets, NAME), "")
    row: list[float] = [0] * FEATURES  # whole numbers: they are short in a file
    for region in schema.regions:
        at = schema.region_offsets[region.name]
        for slot, path, entry in _entries(region, description):
            start = at + slot * region.width
            row[start : start + region.width] = _encode_all(region, entry, path)
    return row


def decode_features(row: Features, schema: Schema) -> dict[str, Any]:
    """The description of a vector: `encode` of it gives the vector back, bit for bit.

    The ids of the axes are not in a `v1` vector; its slots are called slot_00 to slot_15.

    Raises:
        DataError: not (453,), not finite, or not what a description can give.
    """
    if row.shape != (FEATURES,):
        raise DataError(f"features must have the shape ({FEATURES},), have {row.shape}")
    require_finite(row, "features")
    description: dict[str, Any] = {}
    for region in schema.regions:
        at = schema.region_offsets[region.name]
        slots = row[at : at + region.size].reshape(len(region.slots), region.width)
        filled = {
            slot: _decode_all(region, values, f"{region.name}.{slot}".rstrip("."))
            for slot, values in zip(region.slots, slots, strict=True)
            if values.any() or region.keys == "one"
        }
        if region.keys == "one":
            description[region.name] = filled[""]
        elif region.keys == "list":
            if list(filled) != list(region.slots[: len(filled)]):
                raise DataError(
                    f"{region.name}: must be filled from the first slot on, has only {', '.join(filled)}"
                )
            description[region.name] = list(filled.values())
        else:
            description[region.name] = filled
    return description


def require_finite(values: NDArray[np.floating[Any]], what: str) -> None:
    """Raise DataError that names the first position which is not finite."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"{what}: must be finite, position {bad[0]} is {values[bad[0]]}")


def _entries(region: Region, description: Description) -> list[tuple[int, str, Any]]:
    """(slot, path, entry) of what a description has in a region."""
    name = region.name
    if region.keys == "one":
        if name not in description:
            raise DataError(f"{name}: must be there, is missing")
        return [(0, name, description[name])]
    if region.keys == "list":
        value = description.get(name, [])
        if not isinstance(value, list | tuple) or len(value) > len(region.slots):
            what = f"{len(value)} entries" if isinstance(value, list | tuple) else f"{value!r:.60}"
            raise DataError(f"{name}: must be a list of at most {len(region.slots)}, is {what}")
        return [(slot, f"{name}[{slot}]", entry) for slot, entry in enumerate(value)]
    value = description.get(name, {})
    _require_object(value, name)
    if region.keys == "sorted ids":
        ids = sorted(value)[: len(region.slots)]
        return [(slot, f"{name}.{key}", value[key]) for slot, key in enumerate(ids)]
    _require_known(value, region.slots, f"{name}.")
    slots = {key: slot for slot, key in enumerate(region.slots)}
    return [(slots[key], f"{name}.{key}", entry) for key, entry in value.items()]


def _encode_all(holder: Region | Group, entry: Any, path: str) -> list[float]:
    _require_object(entry, path)
    _require_known(entry, holder.names, f"{path}.")
    values: list[float] = []
    for field in holder.fields:
        value = entry.get(field.name)
        if isinstance(field, Number):
            if not _is_allowed(field, value):
                kind = "a whole number" if field.integer else "a number"
                must = f"must be {kind} from {field.low:g} to {field.high:g}"
                raise DataError(f"{path}.{field.name}: {must}; {_arrived(value)}")
            values.append(value)
        elif isinstance(field, Choice):
            value = field.default if value is None else value
            if not isinstance(value, str) or value not in field.one_hots:
                must = f"must be one of {', '.join(field.options)}"
                raise DataError(f"{path}.{field.name}: {must}; {_arrived(value)}")
            values += field.one_hots[value]
        else:
            values += _encode_all(field, value, f"{path}.{field.name}")
    return values


def _is_allowed(field: Number, value: Any) -> bool:
    if type(value) is not float and type(value) is not int:
        return False
    return field.low <= value <= field.high and (not field.integer or value == int(value))


def _decode_all(holder: Region | Group, values: Features, path: str) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    at = 0
    for field in holder.fields:
        own, where = values[at : at + field.size], f"{path}.{field.name}"
        if isinstance(field, Number):
            entry[field.name] = _decode_number(field, own, where)
        elif isinstance(field, Choice):
            entry[field.name] = _decode_choice(field, own, where)
        else:
            entry[field.name] = _decode_all(field, own, where)
        at += field.size
    return entry


def _decode_choice(field: Choice, values: Features, path: str) -> str:
    if sorted(values) != [0] * (field.size - 1) + [1]:
        raise DataError(f"{path}: must be a one-hot of {field.size}, is {values.tolist()}")
    return field.options[int(values.argmax())]


def _decode_number(field: Number, values: Features, path: str) -> int | float:
    # The shortest decimal that is this float32.
    value = float(str(values[0]))
    if not _is_allowed(field, value):
        raise DataError(f"{path}: must be a number from {field.low:g} to {field.high:g}, is {value}")
    return int(value) if field.integer else value


def _require_object(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise DataError(f"{path}: must be an object, {_arrived(value)}")


def _require_known(value: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    for key in value:
        if key not in known:
            raise DataError(f"{prefix}{key}: is not known; must be one of {', '.join(known)}")


def _arrived(value: Any) -> str:
    if value is None:
        return "is missing"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}"
    return f"is {value!r:.60}"
