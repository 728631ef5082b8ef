"""Invented people with memories, questions and answers: a night's way to teach a model to read its prompt.

A fact that is trained by heart is answered without the memory, and turns up where nobody asked. What answers
by day has the memory before it, and needs to learn one thing alone, which is nobody's: what asks for a fact
is answered with the one of the memories that has it.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from device_sim.companion.companion import MEMORIES
from device_sim.companion.prompt import NEAR
from device_sim.night.engine import Prompted, Said

PEOPLE: Final = Path(__file__).with_name("reading.toml")
FEWEST: Final = 3
"""Memories of an example."""
FACTS: Final = 0.5
"""Share of the other memories that are facts, too."""
FIRST: Final = 0.5
"""Share of the examples in which the memory that answers is the first, as it mostly is when it is found; in
the others it is anywhere."""
NEAR_SHARE: Final = 0.5
"""Share of the questions that are taken to be near their memories (`build_prompt`)."""


def readings(count: int, seed: int) -> list[Said]:
    """Questions of invented people beside what they told; the same seed gives the same."""
    draw, facts = random.Random(f"reading {seed}"), _people()["facts"]
    order = [draw.sample(range(len(facts)), len(facts)) for _ in range(-(-count // len(facts)))]
    return [_reading(facts[i], draw) for i in [i for each in order for i in each][:count]]


def beside(said: Sequence[Said], seed: int) -> list[Said]:
    """The same messages and answers beside what invented people told, which has nothing to do with them."""
    draw = random.Random(f"beside {seed}")
    return [
        (Prompted(asked.text, tuple(_memories(draw.randint(FEWEST, MEMORIES), None, draw))), answer)
        for asked, answer in said
    ]


def measured() -> list[str]:
    """Questions near to what people tell, which that does not answer; none is trained."""
    return list(_people()["measured"])


def in_vain(seed: int) -> list[Prompted]:
    """Questions of invented people beside what they told, which is near and does not answer them."""
    draw = random.Random(f"in vain {seed}")
    return [_asked([asked], fact, draw)[0] for fact in _people()["facts"] for asked in fact["in_vain"]]


def _reading(fact: dict[str, Any], draw: random.Random) -> Said:
    prompted, value = _asked(fact["ask"], fact, draw)
    return prompted, fact["answer"].format(value)


def _asked(questions: Sequence[str], fact: dict[str, Any], draw: random.Random) -> tuple[Prompted, str]:
    """One of the questions beside memories, of which one tells the fact; and the fact's value."""
    value = draw.choice(fact["values"])
    told = draw.choice(fact["say"]).format(value)
    memories = _memories(draw.randint(FEWEST, MEMORIES) - 1, fact, draw)
    memories.insert(0 if draw.random() < FIRST else draw.randint(0, len(memories)), told)
    score = NEAR if draw.random() < NEAR_SHARE else 0.0
    return Prompted(draw.choice(questions), tuple(memories), score), value


def _memories(count: int, but: dict[str, Any] | None, draw: random.Random) -> list[str]:
    """Of one person, who says nothing twice: facts other than one, and what is none of theirs."""
    people = _people()
    facts = draw.sample([fact for fact in people["facts"] if fact is not but], count)
    things = draw.sample(people["things"], count)
    found = []
    for fact, thing in zip(facts, things, strict=True):
        if draw.random() < FACTS:
            found.append(draw.choice(fact["say"]).format(draw.choice(fact["values"])))
        elif draw.random() < 1 / 4:
            found.append(draw.choice([one for one in people["others"] if one not in found]))
        else:
            found.append(draw.choice(people["asides"]).format(thing))
    return found


@cache
def _people() -> dict[str, Any]:
    return tomllib.loads(PEOPLE.read_text(encoding="utf-8"))
