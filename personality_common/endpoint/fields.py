"""A request's JSON, read field by field: what is wrong is said in a line, with the field's name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from personality_common.endpoint.model import RequestError, Tool
from personality_common.printable import is_unicode

MAX_DEPTH: Final = 64
MAX_MESSAGES: Final = 2_048
MAX_TOOLS: Final = 64
MAX_STOPS: Final = 16
_KINDS: Final = {str: "a string", bool: "a boolean", list: "a list", dict: "an object", type(None): "null"}


def parse_object(body: bytes) -> dict[str, Any]:
    """An object of JSON; RequestError if it is something else, or nested too deeply."""
    try:
        value = json.loads(body.decode() or "{}", parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body must be UTF-8, is not at byte {error.start}") from None
    except RecursionError:
        raise RequestError("the body must not be nested so deeply") from None
    except ValueError as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, _Malformed) else ""
        raise RequestError(f"the body must be JSON, is not{where}") from None
    if not isinstance(value, dict):
        raise RequestError(f"the body must be an object of JSON, is {kind(value)}")
    _require_shallow(value)
    return value


_Malformed = json.JSONDecodeError


def kind(value: Any) -> str:
    """What a value is, for a message."""
    return _KINDS.get(type(value), "a number")


class Fields:
    """An object of a request. Null is as if the field were not there; unknown fields are ignored."""

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, dict):
            raise RequestError(f"{where or 'the body'} must be an object, is {kind(value)}", parameter=where)
        self.value: dict[str, Any] = value
        self.where = where

    def name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def wrong(self, key: str, must: str) -> RequestError:
        """That a field is not what it must be; of its value only the kind is said."""
        name = self.name(key)
        return RequestError(f"{name} must be {must}, is {kind(self.value.get(key))}", parameter=name)

    def refuse(self, key: str, *, unless: tuple[Any, ...] = ()) -> None:
        """Some field changes what the answer means, and cannot be served."""
        value = self.value.get(key)
        if value and value not in unless:
            name = self.name(key)
            raise RequestError(f"{name} is not supported; leave it out", 400, "unsupported_parameter", name)

    def text(self, key: str, default: str | None = None) -> str:
        """A string; RequestError if there is none and no default."""
        value = self.value.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not is_unicode(value):
            raise self.wrong(key, "a string")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.value.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return default if value is None else value

    def number(self, key: str, low: float, high: float) -> float | None:
        """A number within limits, or None."""
        value = self.value.get(key)
        if value is None:
            return None
        # Whole numbers may be larger than any float.
        if type(value) not in (int, float) or not low <= value <= high or not math.isfinite(value):
            raise self.wrong(key, f"a number between {low:g} and {high:g}")
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number within limits, or None."""
        value = self.value.get(key)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"a whole number between {low} and {high}")
        return value

    def items(self, key: str, most: int) -> list[Any]:
        """A list, empty if there is none."""
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        if len(value) > most:
            name = self.name(key)
            raise RequestError(f"{name} must have {most} items or fewer, has {len(value)}", parameter=name)
        return value

    def objects(self, key: str, most: int) -> Iterator[Fields]:
        """The objects of a list."""
        for index, item in enumerate(self.items(key, most)):
            yield Fields(item, f"{self.name(key)}[{index}]")

    def inner(self, key: str) -> Fields:
        """An object, empty if there is none."""
        value = self.value.get(key)
        return Fields({} if value is None else value, self.name(key))

    def stops(self, key: str) -> tuple[str, ...]:
        """A string, or a list of strings."""
        value = self.value.get(key)
        found = [value] if isinstance(value, str) else self.items(key, MAX_STOPS)
        if not all(isinstance(item, str) and is_unicode(item) for item in found):
            raise self.wrong(key, "a string or a list of strings")
        return tuple(item for item in found if item)

    def tools(self, key: str) -> tuple[Tool, ...]:
        """Tools on offer, which OpenAI and Ollama write alike."""
        found: dict[str, Tool] = {}
        for entry in self.objects(key, MAX_TOOLS):
            if entry.text("type", "function") != "function":
                raise RequestError(f"{entry.name('type')} must be 'function'", parameter=entry.name("type"))
            function = entry.inner("function")
            name = function.text("name")
            if not name or name in found:
                raise RequestError(
                    f"{function.name('name')} must be a name of its own", parameter=function.name("name")
                )
            parameters: Mapping[str, Any] = function.inner("parameters").value
            found[name] = Tool(name, function.text("description", ""), parameters)
        return tuple(found.values())


def _require_shallow(value: Any) -> None:
    """Breadth first, so that what comes after need not fear for its stack."""
    layer: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        layer = [
            item
            for outer in layer
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return
    raise RequestError(f"the body must not be nested more than {MAX_DEPTH} deep")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
