"""Facts that a user told, as questions with answers: the form in which a model can learn them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from device_sim.companion.memory.sameness import statement


@dataclass(frozen=True)
class Fact:
    """What a user said of themselves.

    Attributes:
        what: of which there is one: a later fact with the same `what` takes its place.
        value: as it was said.
        questions: in several wordings; the last two are never trained, and ask whether the fact was learned.
        answer: has the value in it.
    """

    what: str
    value: str
    questions: tuple[str, ...]
    answer: str


_ASKED: Final = {
    "name": (
        ("What is my name?", "How am I called?", "Tell me my name.", "Do you know my name?", "Who am I?",
         "Say my name."),
        "Your name is {value}.",
    ),
    "age": (
        ("How old am I?", "What is my age?", "Tell me how old I am.", "Do you know my age?",
         "My age is what?", "Guess how old I am."),
        "You are {value} years old.",
    ),
    "home": (
        (
            "Where do I live?", "Which town do I live in?", "Tell me where my home is.",
            "Do you know where I live?",
            "What place do I call home?",
            "Name the place where I live.",
        ),
        "You live in {value}.",
    ),
    "work": (
        (
            "What do I do for a living?", "What is my job?", "Tell me what I work as.",
            "Do you know my profession?",
            "What do I work as?",
            "Name my job.",
        ),
        "Your work is {value}.",
    ),
}  # fmt: skip
_MINE: Final = (
    "What is my {what}?",
    "Tell me my {what}.",
    "Do you know my {what}?",
    "Can you say what my {what} is?",
    "My {what} is what?",
    "Say what my {what} is.",
)
_HAVE: Final = (
    (
        re.compile(
            r"my (?P<what>[a-z]+(?: [a-z]+)?) is (?:called|named) (?P<value>[\w' -]{1,40})[.!]*", re.I
        ),
        ("What is my {what} called?", "What is the name of my {what}?", "Tell me the name of my {what}.",
         "Do you know what my {what} is called?", "How is my {what} named?",
         "Say what my {what} is called."),
        "Your {what} is called {value}.",
    ),
    (
        re.compile(r"i(?: am|'m) allergic to (?P<value>[\w' -]{1,40})[.!]*", re.I),
        ("What am I allergic to?", "Which allergy do I have?", "Tell me what I must not eat.",
         "Do you know my allergy?", "What should I stay away from?",
         "Name my allergy."),
        "You are allergic to {value}.",
    ),
)  # fmt: skip
"""Beside the sentences that the memory knows, others that are told often."""


def fact(text: str) -> Fact | None:
    """The fact of a text that is one sentence of a known form; None for all others."""
    text = " ".join(text.replace("’", "'").split())
    if found := statement(text):
        what, value = found[0], _as_written(text, found[1])
        if what in _ASKED:
            questions, answer = _ASKED[what]
            return Fact(what, value, questions, answer.format(value=value))
        thing = what.replace("favourite", "favourite ").replace("mail", "e-mail").replace("  ", " ").strip()
        return Fact(what, value, tuple(q.format(what=thing) for q in _MINE), f"Your {thing} is {value}.")
    for form, questions, answer in _HAVE:
        if match := form.fullmatch(text):
            groups = match.groupdict()
            thing, value = (groups.get("what") or "").casefold(), groups["value"].strip()
            asked = tuple(q.format(what=thing) for q in questions)
            what = f"called {thing}" if thing else f"allergy {value.casefold()}"
            return Fact(what, value, asked, answer.format(what=thing, value=value))
    return None


def _as_written(text: str, value: str) -> str:
    """A value in the case in which the text has it: `statement` compares, and so folds it."""
    at = text.casefold().rfind(value)
    return text[at : at + len(value)] if at >= 0 else value
