"""What a night may learn: of the log's turns those that are live, routed, and thought well of.

Made anew each night from the log, and never kept: a turn that was forgotten is in no night's data after that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from device_sim.companion.events import Event, Feedback, Forgotten, Turn
from device_sim.companion.export import Pair, trainable_pairs
from device_sim.night.facts import Fact, fact

Kind: TypeAlias = Literal["chat", "fact"]
KEPT_BACK: Final = 2
"""Wordings of a fact that are never trained."""
LONGEST: Final = 2_000
"""Characters of a message, and of its answer: what is longer costs a night for one example."""


@dataclass(frozen=True)
class Item:
    """A message and the answer that is to be learned.

    Attributes:
        id: of the answer's turn; of a fact, the turn that told it and the number of the wording.
        kind: a conversation's, or made of a fact.
        turns: of the log that it was made of: when one of them is forgotten, so is the item.
        value: of a fact, what the answer must have in it.
        recall: a fact's wording that is never trained.
        told: how a fact was told.
    """

    id: str
    kind: Kind
    turns: tuple[str, ...]
    conversation: str
    said: str
    answer: str
    value: str | None = None
    recall: bool = False
    told: str | None = None


@dataclass(frozen=True)
class Collected:
    """What the log has for a night.

    Attributes:
        items: in the order of the log.
        left_out: reason -> turns that were left out for it.
        forgotten: turns that were forgotten, ever.
        until: id of the last event that was read.
    """

    items: tuple[Item, ...]
    left_out: Mapping[str, int]
    forgotten: frozenset[str]
    until: str


FORGOTTEN: Final = "forgotten"
BROKEN_OFF: Final = "broken off"
UNTRAINED: Final = "marked no-train, or names a person"
BELOW_ZERO: Final = "answer judged below zero, or not at all good"
UNJUDGED: Final = "answer that nobody judged: the model's own words"
NEITHER: Final = "small talk, by its route"
NO_FORM: Final = "for the memory alone: no sentence that makes a question"
REPLACED: Final = "a fact that a later one replaced"
TOO_LONG: Final = f"longer than {LONGEST:,} characters"


def collect(events: Iterable[Event], user: str, until: str | None = None) -> Collected:
    """Read a log.

    An answer that was edited is learned as it should have been; one that was judged above zero, as it was;
    all others are left out. A message that is routed to the memory is learned as a fact, if it is one.

    Args:
        user: whose turns.
        until: id of the last event that counts, of a night that goes on; None: all do. What was forgotten
            since counts all the same.
    """
    seen: list[Event] = []
    left_out: Counter[str] = Counter()
    forgotten: set[str] = set()
    last = ""
    for event in events:
        if isinstance(event.body, Forgotten):
            forgotten.update(event.body.turns)
        if until is not None and event.id > until:
            continue
        last = event.id
        if event.user != user:
            continue
        seen.append(event)
    edited = {e.body.turn for e in seen if isinstance(e.body, Feedback) and e.body.how == "edit"}
    for event in seen:
        if isinstance(event.body, Turn) and event.body.role == "assistant":
            why = _unfit(event.body, event.id in edited)
            left_out.update([why] if why else [])
    items: list[Item] = []
    facts: dict[str, list[Item]] = {}
    for pair in trainable_pairs(seen):
        found, told, why = _of(pair)
        if why:
            left_out[why] += 1
        items += found
        if told:
            made = _wordings(pair, told)
            left_out[REPLACED] += told.what in facts
            facts.pop(told.what, None)  # so that the order is that of the log
            facts[told.what] = made
    items += [item for made in facts.values() for item in made]
    kept = {why: count for why, count in sorted(left_out.items()) if count}
    return Collected(tuple(items), kept, frozenset(forgotten), last)


def _unfit(turn: Turn, edited: bool) -> str | None:
    """Why an answer is no pair's at all."""
    if turn.forgotten:
        return FORGOTTEN
    if turn.partial and not edited:
        return BROKEN_OFF
    return UNTRAINED if "no-train" in turn.tags else None


def _of(pair: Pair) -> tuple[list[Item], Fact | None, str | None]:
    """Items of a conversation, the fact, and why there is neither."""
    asked, answered = pair.asked.body, pair.answered.body
    assert isinstance(asked, Turn)
    assert isinstance(answered, Turn)
    said, answer = (asked.text or "").strip(), (pair.edit or answered.text or "").strip()
    told = fact(said) if pair.route in ("memory", "both") else None
    if pair.edit is None and pair.route in ("memory", "neither"):
        why = None if told else NO_FORM if pair.route == "memory" else NEITHER
        return [], told, why
    if pair.edit is None and pair.reward is None:
        return [], told, None if told else UNJUDGED
    if pair.edit is None and (pair.reward or 0.0) <= 0:
        return [], told, None if told else BELOW_ZERO
    if max(len(said), len(answer)) > LONGEST:
        return [], told, TOO_LONG
    turns = (pair.asked.id, pair.answered.id)
    return [Item(pair.answered.id, "chat", turns, asked.conversation, said, answer)], told, None


def _wordings(pair: Pair, told: Fact) -> list[Item]:
    """A fact's questions, of which the last two are kept back."""
    asked = pair.asked.body
    assert isinstance(asked, Turn)
    last = len(told.questions) - KEPT_BACK
    return [
        Item(
            f"{pair.asked.id}.{number}", "fact", (pair.asked.id,), asked.conversation,
            question, told.answer, told.value, number >= last, (asked.text or "").strip(),
        )
        for number, question in enumerate(told.questions)
    ]  # fmt: skip
