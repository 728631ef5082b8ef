"""A simulated user: who they are, what they say, and what they think of answers; by seed."""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from device_sim.capability.rules import fold, has_word

WORDS: Final = Path(__file__).with_name("week.toml")
FACTS: Final = 5
ASKED_ON: Final = (2, 5)
"""Days on which what was told is asked; in a week of fewer days its last is the second of them."""
EDITS: Final = 0.9
"""Share of the answers without the style that are edited; the others get a thumb down."""
LONGEST_STYLE: Final = 2
"""Sentences that an answer may have: one, and the sign-off."""
Kind: TypeAlias = Literal["tells", "changes", "asks", "talks"]


@dataclass(frozen=True)
class Told:
    """A fact of the user's.

    Attributes:
        value: that is true first; `later` from the day of the drift on, None: it stays.
        say: how it is told.
        changed: how it is told that it changed.
        ask: in words that no night trains.
    """

    what: str
    value: str
    later: str | None
    say: str
    changed: str
    ask: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """Something that the user says; `what` names the fact that it tells or asks for."""

    kind: Kind
    said: str
    what: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What the user does with an answer: `edit` is what it should have been, `thumbs` 1 or -1."""

    edit: str | None = None
    thumbs: int | None = None


class User:
    """One person.

    Attributes:
        facts: that are told on day 1.
        drifts_on: the day from which another sign-off is liked, and one of the facts is another.
    """

    def __init__(self, seed: int, days: int, turns: int) -> None:
        draw, words = random.Random(f"week {seed}"), _words()
        self.days, self.turns, self.seed = days, turns, seed
        self.drifts_on = days // 2 + 1
        first, second = draw.sample(words["sign_offs"], 2)
        self._signs: tuple[str, str] = (first, second)
        kinds = draw.sample(words["facts"], FACTS)
        changing = draw.choice([entry["what"] for entry in kinds if "changed" in entry])
        self.facts = tuple(_fact(entry, changing, draw) for entry in kinds)
        self._things = draw.sample(words["things"], len(words["things"]))

    def sign_off(self, day: int) -> str:
        """That an answer should end in."""
        return self._signs[day >= self.drifts_on]

    def value(self, fact: Told, day: int) -> str:
        """What is true on a day."""
        return fact.later if fact.later is not None and day >= self.drifts_on else fact.value

    def day(self, day: int) -> list[Message]:
        """What is said, in order, each in a conversation of its own."""
        said: list[Message] = []
        if day == 1:
            said += [Message("tells", fact.say.format(fact.value), fact.what) for fact in self.facts]
        if day == self.drifts_on:
            said += [
                Message("changes", f.changed.format(f.later), f.what)
                for f in self.facts
                if f.later is not None
            ]
        if day in (ASKED_ON[0], min(ASKED_ON[1], self.days)):
            wording = int(day != ASKED_ON[0])
            said += [Message("asks", fact.ask[wording], fact.what) for fact in self.facts]
        talks = [Message("talks", text) for text in self._talk(day, self.turns - len(said))]
        mixed = [*said, *talks]
        random.Random(f"week {self.seed} {day}").shuffle(mixed)
        return mixed

    def kept(self) -> list[str]:
        """Messages that are never said by day, to measure the style on."""
        words = _words()
        return [_framed(i, thing) for i, thing in enumerate(words["kept"])]

    def judges(self, day: int, at: int, message: Message, answer: str) -> Verdict:
        """What the user does with the answer to the day's message number `at`.

        What was asked for and not known gets a thumb down; known, and told, nothing: a person would go on.
        """
        if message.kind == "asks":
            fact = next(f for f in self.facts if f.what == message.what)
            return Verdict() if knows(answer, self.value(fact, day)) else Verdict(thumbs=-1)
        if message.kind != "talks":
            return Verdict()
        sign_off = self.sign_off(day)
        if shows(answer, sign_off):
            return Verdict(thumbs=1)
        if random.Random(f"week {self.seed} {day} {at}").random() > EDITS:
            return Verdict(thumbs=-1)
        return Verdict(edit=f"{_first_sentence(answer, self._signs)} {sign_off}")

    def _talk(self, day: int, count: int) -> list[str]:
        first = (day - 1) * self.turns
        things = self._things
        return [_framed(i + i // len(things), things[i % len(things)]) for i in range(first, first + count)]


def shows(answer: str, sign_off: str) -> bool:
    """Whether an answer has the style: short, and ends in the sign-off."""
    bare = fold(answer).rstrip(" .!\"'")
    return bare.endswith(fold(sign_off).rstrip("!")) and len(_sentences(answer)) <= LONGEST_STYLE


def knows(answer: str, value: str) -> bool:
    """Whether an answer has a value in it, as words of its own."""
    return has_word(fold(answer), value)


def _first_sentence(answer: str, sign_offs: tuple[str, str]) -> str:
    """Without a sign-off, old or new."""
    for sign_off in sign_offs:
        answer = answer.replace(sign_off, "")
    found = _sentences(answer)
    return " ".join((found[0] if found else "I see.").split())


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def _framed(at: int, thing: str) -> str:
    frames = _words()["frames"]
    return str(frames[at % len(frames)]).format(thing)


def _fact(entry: dict[str, Any], changing: str, draw: random.Random) -> Told:
    value, later = draw.sample(entry["values"], 2)
    return Told(
        entry["what"], value, later if entry["what"] == changing else None, entry["say"],
        entry.get("changed", ""), tuple(entry["ask"]),
    )  # fmt: skip


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads(WORDS.read_text(encoding="utf-8"))
