"""The event log: all that happened between a user and the companion, append-only, a JSON object a line.

    {"schema": 1, "id": "…", "time": "2026-11-29T10:00:00.000Z", "kind": "turn", "user": "default", …}

`event.schema.json` describes the lines. An event is on the disk when `append` returns; what a kill leaves of
a line that was under way is cut off by the next writer, who says so. Ids rise through all files, whatever the
clock does. Forgotten turns keep their line and lose their text.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias

from personality_common.errors import DataError, ToolkitError
from personality_common.files.typed import from_json
from personality_common.printable import is_unicode

SCHEMA: Final = 1
MAX_LINE_BYTES: Final = 1 << 20
DEFAULT_USER: Final = "default"
Tag: TypeAlias = Literal["no-memory", "no-train"]


@dataclass(frozen=True)
class Turn:
    """Something was said.

    Attributes:
        conversation: turns of one share it; no id of an event.
        text: as it was kept, after the privacy filter; None: forgotten.
        partial: the answer was broken off, by the user or by a failure.
        tags: what must not happen with it; an answer has those of what it answers.
        model: which said it, and `head` which version of the head read the mood.
        mood: the top tokens of what the user said, the likeliest first.
        memories: ids of what was remembered for it.
        source: "chat", or what it was imported from.
    """

    kind: ClassVar = "turn"
    conversation: str
    role: Literal["user", "assistant"]
    text: str | None
    partial: bool = False
    tags: tuple[Tag, ...] = ()
    model: str | None = None
    head: str | None = None
    mood: tuple[str, ...] = ()
    memories: tuple[str, ...] = ()
    source: str = "chat"
    forgotten: bool = False

    def __post_init__(self) -> None:
        if (self.text is None) != self.forgotten:
            raise ValueError("a turn must have a text unless it is forgotten")


@dataclass(frozen=True)
class Feedback:
    """The user judged an answer: `reward` from -1 to 1; `text`, of an edit, is what it should have been."""

    kind: ClassVar = "feedback"
    turn: str
    reward: float
    how: Literal["thumbs", "reward", "edit", "regenerate"]
    text: str | None = None

    def __post_init__(self) -> None:
        if not -1 <= self.reward <= 1:
            raise ValueError(f"reward must be from -1 to 1, is {self.reward:g}")
        if self.text is not None and self.how != "edit":
            raise ValueError("text must be of an edit")


@dataclass(frozen=True)
class Route:
    """Where a turn goes to be learned, with the score of each way."""

    kind: ClassVar = "route"
    turn: str
    route: Literal["adapter", "memory", "both", "neither"]
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Redacted:
    """The privacy filter found things in a turn: how many of each kind, never what.

    All were taken out but names, `person`, for which the turn is marked `no-train`, and `profanity`, for
    which it is marked `no-memory`, too.
    """

    kind: ClassVar = "redaction"
    turn: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Forgotten:
    """These turns were forgotten."""

    kind: ClassVar = "forget"
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """A conversation began, with this model, bundle and head, by their names and versions."""

    kind: ClassVar = "session"
    conversation: str
    model: str
    bundle: str | None = None
    head: str | None = None


Body: TypeAlias = Turn | Feedback | Route | Redacted | Forgotten | Session
BODIES: Final[Mapping[str, type[Body]]] = {
    body.kind: body for body in (Turn, Feedback, Route, Redacted, Forgotten, Session)
}


@dataclass(frozen=True)
class Event:
    """What happened, when, to whom.

    Attributes:
        id: rises from event to event; of a turn it is the turn's.
        time: ISO 8601 in UTC, to the millisecond.
    """

    id: str
    time: str
    user: str
    body: Body

    def line(self) -> bytes:
        """The event's line, with its end.

        Raises:
            ToolkitError: it would be longer than a line may be.
        """
        head = {"schema": SCHEMA, "id": self.id, "time": self.time, "kind": self.body.kind, "user": self.user}
        text = json.dumps(head | asdict(self.body), ensure_ascii=False, allow_nan=False)
        if not is_unicode(text):
            raise ToolkitError("what is kept must be Unicode, this has half a character; give it as UTF-8")
        line = text.encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise ToolkitError(
                f"an event may have {MAX_LINE_BYTES:,} bytes, this has {len(line):,}; shorten it"
            )
        return line


def parse_event(line: bytes, where: str) -> Event:
    """The event of a line.

    Args:
        where: file and line, for the message.

    Raises:
        DataError: it is none, or of a later schema.
    """
    try:
        content: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: must be an event in JSON, is not; the file is damaged") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: must be an event, an object in JSON, is not; the file is damaged")
    kind = content.get("kind")
    if content.get("schema") != SCHEMA or not isinstance(kind, str) or kind not in BODIES:
        found = f"schema {str(content.get('schema'))[:20]}, kind {str(kind)[:20]!r}"
        raise DataError(
            f"{where}: must be of schema {SCHEMA} and of a kind among {', '.join(BODIES)}, is of {found};"
            " a later version of this program may know it"
        )
    for name in ("id", "time", "user"):
        if not isinstance(content.get(name), str):
            raise DataError(f"{where}: {name} must be a string, is not")
    body = from_json(BODIES[kind], content, where)
    return Event(content["id"], content["time"], content["user"], body)


def new_id(after: str | None) -> str:
    """An id above `after`: the time in milliseconds (12 hex digits), and 8 digits by chance."""
    milliseconds = time.time_ns() // 1_000_000
    if after is not None:
        milliseconds = max(milliseconds, int(after[:12], 16) + 1)
    return f"{milliseconds:012x}-{secrets.token_hex(4)}"


def new_conversation() -> str:
    """A name for a conversation."""
    return secrets.token_hex(8)


def utc_now() -> str:
    """The time, as events have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
