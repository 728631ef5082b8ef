"""A turn as it may be kept: through the privacy filter, with its tags."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple, Protocol, cast

from device_sim.companion.events import DEFAULT_USER, Event, Redacted, Tag, Turn
from device_sim.companion.log import EventLog
from device_sim.companion.privacy.findings import LIMITS


class Redaction(Protocol):
    """What the privacy filter lets through: `text`, findings by kind, and whether nothing may be kept."""

    @property
    def text(self) -> str: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def dropped(self) -> bool: ...


class Filter(Protocol):
    """Takes out what must not be kept."""

    def redact(self, text: str) -> Redaction: ...


class Keepable(NamedTuple):
    """A turn as it may be kept, and what was found in it, by kind."""

    turn: Turn
    counts: dict[str, int]

    @property
    def taken_out(self) -> tuple[str, ...]:
        """Kinds of what does not stand in the text any more."""
        return tuple(kind for kind in self.counts if kind not in LIMITS)


def keepable(turn: Turn, tags: Collection[str], filter: Filter) -> Keepable | None:
    """A turn as it may be kept; None: not at all. What was found in it may bring tags of its own."""
    assert turn.text is not None
    redaction = filter.redact(turn.text)
    if "off-record" in tags or redaction.dropped:
        return None
    limits = frozenset[str]().union(*(LIMITS.get(kind, ()) for kind in redaction.counts))
    kept = cast("tuple[Tag, ...]", tuple(sorted({*tags} | limits)))
    return Keepable(replace(turn, text=redaction.text, tags=kept), dict(redaction.counts))


def keep(log: EventLog, kept: Keepable, user: str = DEFAULT_USER, time: str | None = None) -> Event:
    """Log a turn, and what was found in it."""
    event = log.append(kept.turn, user, time)
    if kept.counts:
        log.append(Redacted(event.id, kept.counts), user)
    return event
