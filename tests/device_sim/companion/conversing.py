"""A companion whose model says what a test wants, and whose other parts are the smallest there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from device_sim.companion.memory.sayings import Known
from device_sim.companion.models.model import Message, Piece, Sampling


@dataclass
class Scripted:
    """Says its lines, a word at a time; a token is a word. `between` is called before each word."""

    lines: list[str] = field(default_factory=lambda: ["I see."])
    context_length: int = 1000
    between: Callable[[], None] = lambda: None
    end: str = "done"
    name: str = "scripted"
    system: str | None = None
    asked: list[Sequence[Message]] = field(default_factory=list)

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.text.split()) for message in messages)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        self.asked.append(messages)
        for word in re.findall(r"\S+\s*", self.lines[min(len(self.asked), len(self.lines)) - 1]):
            self.between()
            yield Piece(word)
        yield Piece("", "done" if self.end == "done" else "limit")

    def log_probabilities(self, messages: Sequence[Message], answer: str) -> list[float]:
        return []


@dataclass(frozen=True)
class Found:
    chunk_id: str
    turn_id: str
    text: str
    role: str = "user"
    score: float = 1.0


@dataclass
class Remembering:
    """Finds everything."""

    kept: dict[str, Found] = field(default_factory=dict)

    def search(self, query: str, user: str, k: int) -> list[Found]:
        return list(self.kept.values())[:k]

    def add(
        self, turn_id: str, text: str, user: str, time: str, role: str, tags: Collection[str] = ()
    ) -> None:
        self.kept[turn_id] = Found(f"{turn_id}.0", turn_id, text, role)

    def audit(self, user: str | None = None) -> list[Known]:
        return [
            Known(one.chunk_id, one.text, "default", one.role, "2026-11-29T10:00:00.000Z", (), "chat",
                  (one.turn_id,), (one.chunk_id,), None, None)
            for one in reversed(self.kept.values())
        ]  # fmt: skip

    def forget(self, turn_ids: Collection[str]) -> int:
        return len([self.kept.pop(turn) for turn in turn_ids if turn in self.kept])


@dataclass(frozen=True)
class Kept:
    text: str
    counts: dict[str, int]
    dropped: bool


@dataclass
class Masking:
    """Masks the word zebra."""

    drop: bool = False

    def redact(self, text: str) -> Kept:
        count = text.count("zebra")
        return Kept(
            text.replace("zebra", "[secret]"), {"secret": count} if count else {}, self.drop and count > 0
        )


def take_tags(text: str) -> tuple[str, frozenset[str]]:
    tags = re.findall(r"#(no-train|no-memory|off-record)", text)
    return re.sub(r"\s*#(no-train|no-memory|off-record)", "", text), frozenset(tags)


@dataclass(frozen=True)
class Routed:
    label: str
    scores: dict[str, float]


def route(text: str) -> Routed | None:
    """By the first word: a label, and its probability behind a colon."""
    label, _, probability = text.split()[0].partition(":")
    return Routed(label, {label: float(probability)}) if probability else None


class Moody:
    """Feels the first words."""

    bundle = "b" * 64
    head: str | None = "h0001-0123456789ab"

    def read(self, text: str) -> tuple[str, ...]:
        return tuple(text.lower().split()[:2])
