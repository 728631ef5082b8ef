"""What the night's examples look like to the base model, before anything is trained."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from device_sim.night.data import Item
from device_sim.night.engine import Engine, Prompted
from device_sim.night.gate.evidence import Told
from device_sim.night.scoring import chrf

LOOKED_AT: Final = 96
"""Examples whose answers are weighed, at most: each costs two readings by the base model."""
ALIKE: Final = 0.9
"""chrF from which two answers are one: `Yes. Ahoy!` and `Yes, ahoy!`."""


def told(engine: Engine, items: Sequence[Item]) -> Told:
    """Look at a night's new examples; those that are made of facts are what was said, by how they are made.

    An answer is weighed against the message of the next example in an order by chance. Answers that are
    nearly those of other examples would be as likely anywhere, and are left out.
    """
    chats = [item for item in items if item.kind == "chat"]
    random.Random(0).shuffle(chats)
    chats = chats[:LOOKED_AT]
    own: list[Item] = []
    for item in chats:
        if not any(chrf(item.answer, other.answer) >= ALIKE for other in own):
            own.append(item)
    if 2 * len(own) < len(chats):
        own = []  # most answers are the same few: they cannot be told apart, and need not be
    others = [*own[1:], *own[:1]]
    here = engine.losses(None, [(Prompted(item.said), item.answer) for item in own])
    there = engine.losses(
        None, [(Prompted(other.said), item.answer) for item, other in zip(own, others, strict=True)]
    )
    gains = tuple(b - a for a, b in zip(here, there, strict=True)) if len(own) > 1 else ()
    return Told(gains, _contradicted(chats), len(chats))


def _contradicted(items: Sequence[Item]) -> int:
    """Examples whose message, but for case and signs, is said again with another answer."""
    by_message: dict[str, list[str]] = {}
    for item in items:
        by_message.setdefault(_folded(item.said), []).append(item.answer)
    return sum(
        any(chrf(item.answer, other) < ALIKE for other in by_message[_folded(item.said)]) for item in items
    )


def _folded(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
