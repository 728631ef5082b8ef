"""What a night's head may learn from: messages whose mood was read, and what became of their answers.

As the night's other data it is made of the log each time, and kept nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from device_sim.companion.events import Event, Session, Turn
from device_sim.companion.export import trainable_pairs
from device_sim.night.state import Night

OTHER_BUNDLE: Final = "mood that another bundle read"


@dataclass(frozen=True)
class Reaction:
    """A message, the tokens that its mood was read as, and the reward of its answer.

    Attributes:
        id: of the answer's turn.
        turns: of the log: when one of them is forgotten, so is the reaction.
    """

    id: str
    turns: tuple[str, ...]
    text: str = field(repr=False)
    mood: tuple[str, ...]
    reward: float


@dataclass(frozen=True)
class Reactions:
    """Those of a log, in its order; `left_out` counts the others by reason."""

    live: tuple[Reaction, ...]
    left_out: Mapping[str, int]

    def by_night(self, nights: Sequence[Night]) -> tuple[list[list[Reaction]], list[Reaction]]:
        """What is live of what each of these nights was the first to hear; and what is new."""
        here = {one.id: one for one in self.live}
        heard = [night.head.new for night in nights if night.head is not None]
        old = {id for new in heard for id in new}
        parts = [[here[id] for id in new if id in here] for new in heard]
        return [part for part in parts if part], [one for one in self.live if one.id not in old]

    def without_new(self, nights: Sequence[Night]) -> Reactions:
        """What these nights heard, alone: what is new waits."""
        new = {one.id for one in self.by_night(nights)[1]}
        return Reactions(tuple(one for one in self.live if one.id not in new), self.left_out)


def reactions(
    events: Iterable[Event], user: str, bundle: str, tokens: Iterable[str], until: str | None = None
) -> Reactions:
    """Read a log.

    An answer that was broken off and edited is none: what was edited is that it ended.

    Args:
        user: whose turns.
        bundle: as sessions have it: moods that another one read, in a conversation of its own, are left out.
        tokens: of its vocabulary.
        until: id of the last event that counts; None: all do.
    """
    known = frozenset(tokens)
    readers: dict[str, str | None] = {}
    seen: list[Event] = []
    for event in events:
        if event.user != user or (until is not None and event.id > until):
            continue
        seen.append(event)
        if isinstance(event.body, Session):
            readers[event.body.conversation] = event.body.bundle
    live: list[Reaction] = []
    left_out: Counter[str] = Counter()
    for pair in trainable_pairs(seen):
        asked, answered = pair.asked.body, pair.answered.body
        assert isinstance(asked, Turn)
        assert isinstance(answered, Turn)
        if not asked.mood or pair.reward is None or answered.partial:
            continue
        if readers.get(asked.conversation) != bundle or not known.issuperset(asked.mood):
            left_out[OTHER_BUNDLE] += 1
            continue
        turns = (pair.asked.id, pair.answered.id)
        mood = tuple(dict.fromkeys(asked.mood))
        live.append(Reaction(pair.answered.id, turns, asked.text or "", mood, pair.reward))
    return Reactions(tuple(live), dict(left_out))
