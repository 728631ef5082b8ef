"""Fields of protobuf messages, read and compared whatever they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from itertools import zip_longest
from typing import Any, Final

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from personality_common.inspection.difference import Change

_LISTED: Final = 8
"""Numbers that are shown one by one."""
_DIGEST: Final = 12


def field_texts(message: Any, without: Container[str] = (), path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and text of each field that is set, those of inner messages too.

    Args:
        without: full names of fields that are left out, with all that is in them.
    """
    for field, value in message.ListFields():
        if field.full_name in without:
            continue
        name = f"{path}.{field.name}" if path else field.name
        if field.message_type is None:
            yield name, _text(field, value)
        elif _is_map(field):
            yield name, f"{len(value):,} entries, SHA-256 {digest(message)}"
        elif hasattr(value, "ListFields"):
            inner = list(field_texts(value, without, name))
            yield from inner or [(name, "set")]
        else:
            for i, item in enumerate(value):
                yield from field_texts(item, without, f"{name}[{i}]")


def differing_fields(a: Any, b: Any, without: Container[str] = (), path: str = "") -> Iterator[Change]:
    """Each field that two messages of one type have otherwise.

    Args:
        without: full names of fields that are left out, with all that is in them.
    """
    if _bytes(a) == _bytes(b):
        return
    in_a, in_b = ({field.name: value for field, value in side.ListFields()} for side in (a, b))
    for field in a.DESCRIPTOR.fields:
        if field.full_name in without or not (field.name in in_a or field.name in in_b):
            continue
        name = f"{path}.{field.name}" if path else field.name
        first, second = (_given(field, side, given) for side, given in ((a, in_a), (b, in_b)))
        if first is not None and second is not None and field.message_type is not None:
            yield from _inner(field, first, second, without, name)
        elif (text_a := _side(field, first)) != (text_b := _side(field, second)):
            yield Change(name, text_a, text_b)
    unknown = [len(UnknownFieldSet(side)) for side in (a, b)]
    if any(unknown) and _unknown(a) != _unknown(b):
        yield Change(f"{path}: fields of a newer format".removeprefix(": "), *map(str, unknown))


def digest(message: Any) -> str:
    """The beginning of a message's SHA-256."""
    return hashlib.sha256(_bytes(message)).hexdigest()[:_DIGEST]


def number_text(value: Any) -> str:
    """Of a boolean as in JSON; of a number all digits that its type has."""
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _inner(field: Any, a: Any, b: Any, without: Container[str], name: str) -> Iterator[Change]:
    if hasattr(a, "ListFields"):
        yield from differing_fields(a, b, without, name)
        return
    if _is_map(field):
        inner = field.message_type.fields_by_name["value"]
        # Not by index, which inserts a key that is absent.
        pairs = ((f"[{key}]", *(side.get(key) for side in (a, b))) for key in sorted({*a, *b}))
    else:
        inner = field
        pairs = ((f"[{i}]", *both) for i, both in enumerate(zip_longest(a, b)))
    for key, x, y in pairs:
        if x is not None and y is not None and inner.message_type is not None:
            yield from differing_fields(x, y, without, name + key)
        elif (text_a := _side(inner, x)) != (text_b := _side(inner, y)):
            yield Change(name + key, text_a, text_b)


def _given(field: Any, message: Any, given: dict[str, Any]) -> Any:
    """The value of a field; None if it is not there, but for a number or text that is then 0 or empty."""
    if field.name in given or field.has_presence:
        return given.get(field.name)
    value = getattr(message, field.name)
    return value if isinstance(value, str | bytes | bool | int | float) else None


def _side(field: Any, value: Any) -> str | None:
    if value is None:
        return None
    if field.message_type is None:
        return _text(field, value)
    if hasattr(value, "ListFields"):
        return f"{value.ByteSize():,} bytes, SHA-256 {digest(value)}"
    return f"{len(value):,} entries"


def _text(field: Any, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"{len(value):,} bytes, SHA-256 {hashlib.sha256(value).hexdigest()[:_DIGEST]}"
    if isinstance(value, bool | int | float):
        return _scalar(field, value)
    if len(value) <= _LISTED:
        return f"[{', '.join(_scalar(field, item) for item in value)}]"
    hashed = hashlib.sha256()
    for item in value:
        hashed.update(f"{_scalar(field, item)}\0".encode("utf-8", "surrogatepass"))
    return f"{len(value):,} values, SHA-256 {hashed.hexdigest()[:_DIGEST]}"


def _scalar(field: Any, value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes, SHA-256 {hashlib.sha256(value).hexdigest()[:_DIGEST]}"
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    if field.type == field.TYPE_FLOAT:
        return str(np.float32(value))
    return number_text(value)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _unknown(message: Any) -> list[tuple[int, int, str]]:
    found = UnknownFieldSet(message)
    fields = (found[i] for i in range(len(found)))
    return [(field.field_number, field.wire_type, repr(field.data)) for field in fields]


def _bytes(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized
