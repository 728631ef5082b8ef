"""Days to learn a night from: what a user says, and answers that were edited, as a store has them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from device_sim.companion.events import Feedback, Route, Tag, Turn, new_conversation
from device_sim.companion.log import EventLog
from device_sim.companion.privacy.filter import Filter
from device_sim.companion.privacy.findings import PERSON
from device_sim.companion.store import hold_store
from device_sim.week.user import User

SIGN_OFF: Final = "Fair winds!"
Answer: TypeAlias = Callable[[Sequence[str]], list[str]]
Way: TypeAlias = Literal["adapter", "memory"]
Kind: TypeAlias = Literal["style", "noise", "signed noise", "contradictions", "few", "person"]
"""style: the model's own first sentence with a sign-off; noise: the same sentences, shuffled, without one.
contradictions: half of the messages, each twice: as in a style, and that nothing is known of it.
few: a style of five turns.
person: in a store that has had a day and a night of one person, the day of another (`write_person`)."""
FEW: Final = 5
NAMES: Final = (
    "Ada", "Boris", "Clara", "David", "Elena", "Felix", "Grace", "Hugo", "Irene", "Jonas", "Karin", "Lucas",
)  # fmt: skip
CATS: Final = ("Mia", "Felix", "Luna", "Oscar", "Pepper", "Rosie", "Simba", "Tiger")
DOING: Final = (
    "I want to learn about {}.", "Tell me about {}.", "I spent the evening with {}.",
    "My friend talks of {}.", "Help me begin with {}.", "I read a page about {}.",
)  # fmt: skip
THINGS: Final = (
    "old lighthouses", "baking rye bread", "growing herbs", "mending bicycles", "the night sky",
    "wooden boats",
    "keeping bees", "watercolours", "mountain huts", "folk songs", "chess openings", "making cheese",
    "steam trains", "desert plants", "sewing curtains", "ice skating", "writing diaries", "river fishing",
    "stone bridges", "fixing radios", "drawing maps", "cold soups", "juggling", "hot springs",
    "autumn leaves",
    "clay pots", "city parks", "card tricks", "winter birds", "paper kites", "old coins", "brewing tea",
    "rock climbing", "puppet theatre", "weather stations", "market halls", "tall ships", "garden ponds",
    "railway clocks", "wild mushrooms", "knitting hats", "street lamps", "island ferries", "cave paintings",
    "barn owls", "apple orchards", "snow shoes", "church bells", "glass blowing", "camp fires", "sand dunes",
    "tide pools", "model planes", "wind mills", "pumpkin pies", "ink pens", "silk scarves", "tram lines",
    "violin strings", "tent poles",
)  # fmt: skip


def said(count: int) -> list[str]:
    """Messages that are no questions, each of another thing."""
    return [DOING[i % len(DOING)].format(thing) for i, thing in enumerate(THINGS[:count])]


def write_day(store: Path, kind: Kind, answer: Answer, *, count: int = 60, seed: int = 0) -> None:
    """A day of so many turns, a conversation each; the seed shuffles noise, and draws what the messages of
    contradictions and of few are about.

    Args:
        answer: asks the model as it shipped; its first sentences are what the edits are made of.
    """
    draw = random.Random(seed)
    asked = said(count)
    if kind == "few":
        asked = draw.sample(asked, FEW)
    if kind == "contradictions":
        asked = [message for message in draw.sample(asked, count // 2) for _ in range(2)]
    first = [_sentence(text) for text in answer(asked)]
    edits = [f"{sentence} {SIGN_OFF}" for sentence in first]
    if kind == "contradictions":
        edits[1::2] = [f"I know nothing of that, {SIGN_OFF}"] * (count // 2)
    elif kind not in ("style", "few"):
        edits = edits if kind == "signed noise" else list(first)
        draw.shuffle(edits)
    with hold_store(store, create=True) as held, EventLog(held.events) as log:
        for message, told, edit in zip(asked, first, edits, strict=True):
            conversation = new_conversation()
            turn = log.append(Turn(conversation, "user", message))
            answered = log.append(Turn(conversation, "assistant", told))
            log.append(Route(turn.id, "adapter", {"adapter": 1.0}))
            log.append(Feedback(answered.id, -0.3, "edit", edit))


def write_person(store: Path, answer: Answer, *, count: int = 60, seed: int = 0) -> None:
    """A day of so many turns of a person, by seed: facts, tagged as a chat does, and edits in a style."""
    user, draw = User(seed, 7, count), random.Random(f"person {seed}")
    facts = [f"My name is {draw.choice(NAMES)}.", f"My cat is called {draw.choice(CATS)}."]
    facts += [fact.say.format(fact.value) for fact in user.facts]
    asked = draw.sample(said(len(THINGS)), count - len(facts))
    told = [_sentence(text) for text in answer(asked)]
    filter = Filter("mask")
    with hold_store(store, create=True) as held, EventLog(held.events) as log:
        for message in facts:
            found = filter.redact(message)
            tags: tuple[Tag, ...] = ("no-train",) if PERSON in found.counts else ()
            conversation = new_conversation()
            turn = log.append(Turn(conversation, "user", found.text or "", tags=tags))
            log.append(Turn(conversation, "assistant", "I see.", tags=tags))
            log.append(Route(turn.id, "memory", {"memory": 1.0}))
        for message, sentence in zip(asked, told, strict=True):
            conversation = new_conversation()
            turn = log.append(Turn(conversation, "user", message))
            answered = log.append(Turn(conversation, "assistant", sentence))
            log.append(Route(turn.id, "adapter", {"adapter": 1.0}))
            log.append(Feedback(answered.id, -0.3, "edit", f"{sentence} {user.sign_off(1)}"))


def write_user(store: Path, user: User, answer: Answer) -> None:
    """The first day of a simulated user, who judges the answers; a conversation a message.

    Args:
        answer: asks the model as it shipped.
    """
    messages = user.day(1)
    told = answer([message.said for message in messages])
    with hold_store(store, create=True) as held, EventLog(held.events) as log:
        for at, (message, text) in enumerate(zip(messages, told, strict=True)):
            conversation = new_conversation()
            turn = log.append(Turn(conversation, "user", message.said))
            answered = log.append(Turn(conversation, "assistant", text.strip()))
            way: Way = "memory" if message.kind == "tells" else "adapter"
            log.append(Route(turn.id, way, {way: 1.0}))
            verdict = user.judges(1, at, message, text)
            if verdict.edit is not None:
                log.append(Feedback(answered.id, -0.3, "edit", verdict.edit))
            if verdict.thumbs is not None:
                log.append(Feedback(answered.id, float(verdict.thumbs), "thumbs"))


def _sentence(text: str) -> str:
    found = re.match(r"\s*(.+?[.!?])(?:\s|$)", text, re.S)
    return " ".join((found[1] if found else f"{text.strip()}.").split())
