"""Count what a protobuf would become, before it becomes it.

Two bytes on the wire can ask for a message of a hundred bytes, so the size of a file says little
about the memory that its parser takes. Here the fields are walked in the wire format, whose every
message, string and bytes field has its length in front, and nothing is built.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}


def count_objects(data: bytes, descriptor: Any, most: int) -> int:
    """Messages and strings in a serialized message, at least those that parsing would make.

    Args:
        data: any bytes; where they are no protobuf, counting ends, and it is for the parser to say so.
        descriptor: of the message.
        most: counting ends above this number.
    """
    count, size = 0, len(data)
    fields = _objects(descriptor)
    # Where each enclosing message goes on after the one being walked.
    outer: list[tuple[int, dict[int, Any]]] = []
    at, end = 0, size
    while count <= most:
        if at >= end:
            if not outer:
                break
            end, fields = outer.pop()
            continue
        tag = data[at]
        at += 1
        if tag >= 128:
            tag, at = _varint(data, at - 1)
        kind = tag & 7
        if kind == 0:
            while at < size and data[at] >= 128:
                at += 1
            at += 1
        elif kind == _LENGTH_DELIMITED:
            if at >= size:
                break
            length = data[at]
            at += 1
            if length >= 128:
                length, at = _varint(data, at - 1)
            if tag >> 3 in fields:
                count += 1
                inner = fields[tag >> 3]
                if inner is not None and length:
                    outer.append((end, fields))
                    end, fields = min(at + length, size), _objects(inner)
                    continue
            at += length
        else:  # groups, which Core ML does not use, are walked as if they were not there
            at += _FIXED.get(kind, 0)
    return count


@cache
def _objects(descriptor: Any) -> dict[int, Any]:
    """Fields by number that become an object: the descriptor of a message, None for strings and bytes."""
    texts = (descriptor.fields[0].TYPE_STRING, descriptor.fields[0].TYPE_BYTES) if descriptor.fields else ()
    return {
        field.number: field.message_type
        for field in descriptor.fields
        if field.message_type is not None or field.type in texts
    }


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            break
        shift += 7
    return value, at
