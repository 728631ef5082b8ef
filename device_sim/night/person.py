"""Whether what is told tonight is told by the person who was there before: facts with another value.

Read from the log, in which every telling stays until it is forgotten, whatever the memory shows, and whether
or not it may be trained: "My name is Mia." never is. Nothing is kept for this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from device_sim.companion.events import Event, Turn
from device_sim.night.data import LONGEST
from device_sim.night.facts import fact
from device_sim.night.state import Night

_SENTENCES: Final = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Retold:
    """Facts that were told before tonight and are told tonight, too, by what they are of: `Fact.what`.

    Attributes:
        changed: with another value than the last one before tonight.
        again: how many facts, these too.
    """

    changed: tuple[str, ...] = ()
    again: int = 0


def retold(
    events: Iterable[Event], user: str, nights: Sequence[Night], until: str, *, heard: bool = False
) -> Retold:
    """Compare tonight's facts with those that were told before.

    Tonight is what came after the last night that took something: what an earlier night refused to train on
    is still in question.

    Args:
        user: whose turns.
        nights: before this one.
        until: id of the last event that counts.
        heard: a night of which the head alone took something counts, too.
    """
    took = (night for night in nights if night.turns or (heard and night.head and night.head.new))
    since = max((night.until for night in took), default="")
    before: dict[str, str] = {}
    changed: dict[str, bool] = {}
    for event in events:
        said = event.body
        if event.id > until or event.user != user or not isinstance(said, Turn) or said.role != "user":
            continue
        for told in filter(None, map(fact, _SENTENCES.split((said.text or "")[:LONGEST]))):
            if event.id <= since:
                before[told.what] = told.value
            elif told.what in before:
                changed[told.what] = changed.get(told.what, False) or not _same(before[told.what], told.value)
    return Retold(tuple(what for what, other in changed.items() if other), len(changed))


def _same(value: str, other: str) -> bool:
    """`Oslo` and `oslo, Norway` are: one has all the words of the other."""
    one, two = _words(value), _words(other)
    return one <= two or two <= one


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() else " " for c in text.casefold()).split())
