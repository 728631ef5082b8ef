"""Changes that make a hostile file of an honest one."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any, Final

from personality_common.coreml.proto import Model_pb2


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to four bytes changed, or a few removed or doubled."""
    mutant = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(mutant))
        kind = rng.random()
        if kind < 0.8:
            mutant[at] = rng.randrange(256)
        elif kind < 0.9:
            del mutant[at : at + rng.randint(1, 8)]
        else:
            mutant[at:at] = mutant[at : at + rng.randint(1, 8)]
    return bytes(mutant)


EXTREMES = [0, 1, -1, 2, 3, 7, 16, 100, 65536, 2**31 - 1, -(2**31), 2**40, 2**63 - 1]


Way = tuple[tuple[str, Any], ...]


def field_places(message: Any, path: Way = ()) -> Iterator[tuple[Way, str]]:
    """Every field that is set, and the way to its message: fields, with an index or a key among many."""
    for field, value in message.ListFields():
        if field.name == "metadata":
            continue
        yield path, field.name
        if field.message_type is None:
            continue
        if hasattr(value, "ListFields"):
            yield from field_places(value, (*path, (field.name, None)))
        elif hasattr(value, "items"):
            for key in sorted(value):
                if hasattr(value[key], "ListFields"):
                    yield from field_places(value[key], (*path, (field.name, key)))
        else:
            for index, item in enumerate(value):
                yield from field_places(item, (*path, (field.name, index)))


def rewrite(data: bytes, rng: random.Random, places: list[tuple[Way, str]]) -> bytes:
    """A protobuf that still parses, with a field or two set to something else."""
    spec = Model_pb2.Model.FromString(data)
    for path, name in rng.sample(places, rng.randint(1, 2)):
        message = spec
        try:
            for step, key in path:
                inner = getattr(message, step)
                message = inner if key is None else inner[key]
        except IndexError:  # the first change removed it
            continue
        try:
            change(message, name, rng)
        except (ValueError, TypeError, IndexError):  # out of the field's range
            message.ClearField(name)
    written: bytes = spec.SerializeToString()
    return written


def change(message: Any, name: str, rng: random.Random) -> None:
    value = getattr(message, name)
    if isinstance(value, str):
        setattr(message, name, rng.choice(["", "x", "add", "tile", "linear", "y", value + "_"]))
    elif isinstance(value, int | float):
        setattr(message, name, rng.choice(EXTREMES))
    elif isinstance(value, bytes) or hasattr(value, "ListFields") or hasattr(value, "items"):
        message.ClearField(name)
    elif hasattr(value, "add"):
        rng.choice([value.pop, value.add, lambda: value.add().CopyFrom(value[0])])()
    else:
        at = rng.randrange(len(value))
        value[at] = rng.choice(["", "x"]) if isinstance(value[at], str) else rng.choice(EXTREMES)


VALUES: Final[list[Any]] = [
    None, True, 0, -1, 1.5, 2**31, 2**63, 2**70, -(2**70), 1e308, float("nan"), float("inf"), "", "x",
    "\ud800", "\x1b[31m", "../x", "Q" * 10_000, [], {}, [[[[]]]], {"x": {}}, list(range(100)),
]  # fmt: skip


def restate(data: bytes, rng: random.Random) -> bytes:
    """JSON, or the first line of JSONL, with one or two values replaced, removed or given another name."""
    first, newline, rest = data.partition(b"\n") if data.count(b"\n{") else (data, b"", b"")
    document = copy.deepcopy(json.loads(first))
    for _ in range(rng.randint(1, 2)):
        place: Any = document
        keys: list[tuple[Any, Any]] = []
        while isinstance(place, dict | list) and place and (not keys or rng.random() < 0.8):
            key: Any = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            keys.append((place, key))
            place = place[key]
        holder, key = keys[-1] if keys else (document, "x")
        if not keys or rng.random() < 0.7:
            holder[key] = rng.choice(VALUES)
        elif rng.random() < 0.5:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(["x", "schema", "../x"])] = holder.pop(key)
        if not isinstance(document, dict | list) or not document:
            break
    return json.dumps(document).encode() + newline + rest


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def reheaded(data: bytes, rng: random.Random) -> bytes:
    """safetensors whose header, JSON behind its length, says something else."""
    length = int.from_bytes(data[:8], "little")
    header = restate(data[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]
