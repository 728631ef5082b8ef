"""What comes into a memory, and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from device_sim.companion.events import Event, Forgotten, Route, Turn

NO_MEMORY: Final = "no-memory"
SURE: Final = 0.9
"""The router's probability of `neither` from which a turn is not remembered.

It errs in a tenth of its records (BENCHMARKS.md), and a fact lost is worse than small talk kept.
"""
Why: TypeAlias = Literal["said again", "replaced"]


@dataclass(frozen=True)
class Saying:
    """A turn as a memory takes it.

    Attributes:
        time: ISO 8601 in UTC, all of them in one form: times are compared as strings.
        source: "chat", or what it was imported from.
    """

    turn: str
    text: str
    user: str
    time: str
    role: str
    tags: frozenset[str] = frozenset()
    source: str = "chat"


@dataclass(frozen=True)
class Hit:
    """A chunk that a search found.

    Attributes:
        chunk_id: the turn that said it last, and which part of it: `TURN.0`.
        time: when it was said last.
        score: what hits are ordered by: `dense` and a share of `lexical`.
        dense: cosine to the query.
        lexical: BM25 of the query's rare words, times their share of its words; 0 where the chunk has none.
    """

    chunk_id: str
    turn_id: str
    text: str
    time: str
    role: str
    score: float
    dense: float
    lexical: float


@dataclass(frozen=True)
class Known:
    """A chunk, and why it is there.

    Attributes:
        turns: that said it, the latest first; `chunk_id` and the other fields are of the latest.
        names: it goes by, of each of its sayings: TURN.PART.
        hidden_by: chunk that says the same later, or something else in its place; None: it is found.
        why: of the two, which.
        last_used: when an answer was last given it; None: never, or nobody asked the log.
    """

    chunk_id: str
    text: str
    user: str
    role: str
    time: str
    tags: tuple[str, ...]
    source: str
    turns: tuple[str, ...]
    names: tuple[str, ...]
    hidden_by: str | None
    why: Why | None
    last_used: str | None = None


def remembered(events: Iterable[Event]) -> Iterator[Saying]:
    """The turns of a log that a memory is made of: not those forgotten, marked `no-memory`, or small talk."""
    found: dict[str, Saying] = {}
    for event in events:
        body = event.body
        if isinstance(body, Turn) and body.text is not None and NO_MEMORY not in body.tags:
            found[event.id] = Saying(
                event.id, body.text, event.user, event.time, body.role, frozenset(body.tags), body.source
            )
        elif isinstance(body, Route) and is_small_talk(body):
            found.pop(body.turn, None)
    yield from found.values()


def plain(text: str) -> str:
    """A text to compare: no case, single spaces."""
    return " ".join(text.casefold().split())


def is_small_talk(route: Route) -> bool:
    """Whether nothing in a turn is worth to be recalled, for all that the router knows."""
    return route.route == "neither" and route.scores.get("neither", 0.0) >= SURE


def forgotten(events: Iterable[Event]) -> frozenset[str]:
    """Turns of a log that somebody asked to forget."""
    return frozenset(
        turn for event in events if isinstance(event.body, Forgotten) for turn in event.body.turns
    )


def last_uses(events: Iterable[Event]) -> dict[str, str]:
    """Chunk -> when an answer was last given it, as the log has it."""
    return {
        chunk: event.time for event in events if isinstance(event.body, Turn) for chunk in event.body.memories
    }
