"""One request and its answer, in the words of a protocol."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from personality_common.endpoint.model import Call, End, Piece, Request, RequestError, Text


@dataclass
class Said:
    """All that a model said."""

    parts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    end: End = field(default_factory=lambda: End("stop"))

    def add(self, piece: Piece) -> None:
        if isinstance(piece, Text):
            self.parts.append(piece.text)
        elif isinstance(piece, Call):
            self.calls.append(piece)
        else:
            self.end = piece

    @property
    def text(self) -> str:
        return "".join(self.parts)


class Exchange(ABC):
    """What was asked, and how what is said is written.

    Attributes:
        request: for the model; None: nothing is to be said.
        model: the name that the client asked for.
        streams: pieces are written as they come, not the whole at the end.
    """

    content_type: ClassVar[str]
    request: Request | None
    model: str
    streams: bool

    @abstractmethod
    def start(self) -> bytes:
        """What a stream begins with."""

    @abstractmethod
    def piece(self, piece: Text | Call) -> bytes:
        """Something the model said."""

    @abstractmethod
    def end(self, said: Said) -> bytes:
        """What a stream ends with."""

    @abstractmethod
    def broken(self, error: RequestError) -> bytes:
        """What a stream ends with that cannot go on."""

    @abstractmethod
    def whole(self, said: Said) -> Mapping[str, Any]:
        """The answer at once."""


def dumps(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def ndjson(*values: Any) -> bytes:
    """Values of JSON, one a line."""
    return b"".join(dumps(value).encode() + b"\n" for value in values)


def server_sent(values: Iterable[Any]) -> bytes:
    """Events of a stream (`text/event-stream`), one for each value."""
    return b"".join(b"data: " + dumps(value).encode() + b"\n\n" for value in values)
