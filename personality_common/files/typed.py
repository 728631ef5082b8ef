"""JSON as dataclasses: what comes in must have just the types that the code says, down to the last number."""

from __future__ import annotations

import math
import reprlib
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from personality_common.errors import DataError

T = TypeVar("T")

GREATEST: Final = (1 << 62) - 1
"""Of whole numbers: they are counts, sizes and offsets."""
_NAMES: Final = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def from_json(kind: type[T], value: Any, where: str) -> T:
    """Make a dataclass of parsed JSON; `dataclasses.asdict` is the way back.

    Fields may be dataclasses, `str`, `int` (0 to `GREATEST`), `float` (finite), `bool`, `Literal`,
    `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]` and `Any`. A key that the dataclass does not
    have is left alone, so that a later version may add some.

    Args:
        where: names the file in the message.

    Raises:
        DataError: something else is there, a field without a default is missing, or the dataclass itself
            refused its values by a ValueError. The message has the place: `tensors[3].offset`.
    """
    made: T = _make(kind, value, where, "")
    return made


def _make(kind: Any, value: Any, where: str, at: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not NoneType)
        return _make(kind, value, where, at)
    if is_dataclass(kind):
        return _dataclass(kind, _typed(value, dict, "an object", where, at), where, at)
    if origin is dict:
        entries = _typed(value, dict, "an object", where, at).items()
        return {key: _make(arguments[1], item, where, f"{at}[{key[:80]!r}]") for key, item in entries}
    if origin is tuple:
        items = _typed(value, list, "a list", where, at)
        kinds = [arguments[0]] * len(items) if arguments[-1] is ... else arguments
        if len(kinds) != len(items):
            raise _wrong(where, at, f"a list of {len(kinds)}", value)
        return tuple(
            _make(k, item, where, f"{at}[{i}]") for i, (k, item) in enumerate(zip(kinds, items, strict=True))
        )
    if origin is Literal:
        if (type(value), value) not in [(type(allowed), allowed) for allowed in arguments]:
            raise _wrong(where, at, " or ".join(map(repr, arguments)), value)
        return value
    if kind is float and type(value) is int:
        value = float(value) if value.bit_length() < 1024 else math.inf
    _typed(value, kind, _NAMES[kind], where, at)
    if (kind is int and not 0 <= value <= GREATEST) or (kind is float and not math.isfinite(value)):
        raise _wrong(where, at, f"0 to {GREATEST}" if kind is int else "finite", value)
    return value


def _dataclass(kind: Any, value: dict[str, Any], where: str, at: str) -> Any:
    hints = _hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise DataError(f"{where}: {at or 'it'} must have {name!r}")
    prefix = f"{at}." if at else ""
    made = {n: _make(hints[n], value[n], where, f"{prefix}{n}") for n in known if n in value}
    try:
        return kind(**made)
    except ValueError as error:
        raise DataError(f"{where}: {prefix.rstrip('.')}: {error}") from None


def _typed(value: Any, kind: type, name: str, where: str, at: str) -> Any:
    if type(value) is not kind:
        raise _wrong(where, at, name, value)
    return value


def _wrong(where: str, at: str, wanted: str, value: Any) -> DataError:
    return DataError(f"{where}: {at or 'it'} must be {wanted}, is {reprlib.repr(value)[:200]}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
