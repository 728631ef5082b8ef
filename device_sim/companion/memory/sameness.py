"""Whether two texts say the same, or the later one takes the place of the earlier."""

from __future__ import annotations

import re
from typing import Final

NEAR: Final = 0.97
"""Cosine from which two texts may say the same. "I have two cats" and "I have three cats" have .94."""

_WORD: Final = re.compile(r"\d+(?:[.,:/-]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?…:;\n])[\s\"'“(]*\Z")
_NUMBER: Final = re.compile(
    r"\d.*|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    r"|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred"
    r"|thousand|million|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|once|twice|half|both"
)
_NEGATION: Final = re.compile(
    r"no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|dont|doesnt|didnt|isnt|wasnt|wont"
    r"|cant|hardly|barely|stopped|quit|former|formerly|.*n't"
)
_SELF: Final = frozenset({"i", "i'm", "i've", "i'll", "i'd"})


def agree(first: str, second: str) -> bool:
    """Whether numbers, names and negations are the same in both, and in the same order.

    A name is a word that has a capital in either, but for one that begins a sentence there and is in the
    other, too: names that are written small in both are not seen.
    """
    one, other = _words(first), _words(second)
    names = _names(one, other) | _names(other, one)
    return _marks(one, names) == _marks(other, names)


def _words(text: str) -> list[tuple[str, bool, bool]]:
    """Each word in small letters; whether it has a capital, and whether it begins a sentence."""
    text = text.replace("’", "'")
    return [
        (
            found[0].casefold(),
            found[0][0].isupper(),
            bool(_SENTENCE_START.search(text, max(0, found.start() - 8), found.start())),
        )
        for found in _WORD.finditer(text)
    ]


def _names(words: list[tuple[str, bool, bool]], elsewhere: list[tuple[str, bool, bool]]) -> set[str]:
    there = {word for word, _, _ in elsewhere}
    return {word for word, capital, begins in words if capital and not (begins and word in there)}


def _marks(words: list[tuple[str, bool, bool]], names: set[str]) -> list[str]:
    """What must be alike: numbers, negations, names."""
    marks = []
    for word, _, _ in words:
        if _NEGATION.fullmatch(word):
            marks.append("not")
        elif _NUMBER.fullmatch(word) or (word in names and word not in _SELF):
            marks.append(word)
    return marks


_LEAD: Final = r"(?:(?:by the way|actually|well|oh|so|and|no),?\s+)?"
_WHAT: Final = r"(?:(?:now|currently|presently) )?(?P<value>[^.!?;\n]{1,80}?)"
_FRAMES: Final = tuple(
    (re.compile(rf"{_LEAD}{frame}(?: now| these days)?[.!]*", re.IGNORECASE), key)
    for frame, key in (
        (rf"my name is {_WHAT}", "name"),
        (rf"(?:please )?call me {_WHAT}", "name"),
        (r"i(?: am|'m) (?:now )?(?P<value>\d{1,3}|[a-z]+(?:-[a-z]+)?) years old", "age"),
        (rf"i (?:now |currently )?(?:live|am living) in {_WHAT}", "home"),
        (rf"i(?:'ve| have)? (?:just |recently )?moved to {_WHAT}(?: last \w+| this \w+)?", "home"),
        (rf"i (?:now |currently )?work as (?:an? )?{_WHAT}", "work"),
        (rf"my (?P<what>birthday|address|phone number|e-?mail(?: address)?|job|age) is {_WHAT}", ""),
        (rf"my favou?rite (?P<what>[a-z]+(?: [a-z]+)?) is {_WHAT}", "favourite"),
    )
)
"""Sentences about what a person has one of, so that a later one takes the place of an earlier one."""
_KEYS: Final = {
    "job": "work",
    "email": "mail",
    "e-mail": "mail",
    "email address": "mail",
    "e-mail address": "mail",
}


def statement(text: str) -> tuple[str, str] | None:
    """What a text says of its speaker, as (what, value): ("home", "oslo"); None for all other texts.

    The whole text must be one sentence of a few forms: where I live, how I am called, how old I am, what
    I work as, my birthday, address, phone number, e-mail, and favourites. Two with one `what` and different
    values contradict one another. Nothing else is taken for it: "my dog is Rex" may be a second dog.
    """
    text = " ".join(text.replace("’", "'").split())
    if len(text) > 160 or any(mark == "not" for mark in _marks(_words(text), set())):
        return None
    for frame, key in _FRAMES:
        if found := frame.fullmatch(text):
            what = (found.groupdict().get("what") or "").casefold()
            what = "work" if what == "job" else "mail" if what.startswith("e") else what
            return f"{key} {what}".strip(), found["value"].strip().casefold().removeprefix("the ")
    return None
