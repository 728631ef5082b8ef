"""Values that generated documents are filled with, of which some are kept from training.

A value is held out by its hash: whatever the mix, its seed and its size, training documents have none of
those that held-out documents ask about.
"""

from __future__ import annotations

import hashlib
import random
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

HELD_OUT_SHARE: Final = 0.1
"""Of the values of each open kind."""
INVENTED_SHARE: Final = 0.5
"""Of names: a list is learned by heart, and what is to be learned is to copy."""
SPELLED_SHARE: Final = 0.2
"""Of names, things and open numbers in training. Of a name the first word is letters in no order that a list
or a syllable has; a number has other digits, and as many as it likes."""
WORDS_SHARE: Final = 0.25
"""Of the names that are spelled anew, which lose their other words; and the same share gains a word."""
MOST_DIGITS: Final = 4
SPELLED: Final = frozenset(
    ("person", "city", "street", "title", "place", "artist", "thing", "food", "company")
)
"""Kinds of which that is done."""
_TRIES: Final = 10_000
_CONSONANTS: Final = "bcdfghjklmnpqrstvwxz"
_VOWELS: Final = "aeiouy"

Value = str | int


def is_held_out(kind: str, value: Value) -> bool:
    """Whether training never sees a value: decided by kind and value alone."""
    digest = hashlib.blake2b(f"{kind}\0{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64


class Values:
    """Draws values for one document.

    Attributes:
        rng: what decides.
        unseen: draw those that training never sees; else those that it may.
        spells: some are spelled anew. A word that is not in training's lists is of pieces that training
            seldom copies, unless it has words of any pieces.
    """

    def __init__(self, rng: random.Random, unseen: bool, spells: bool = False) -> None:
        self.rng, self.unseen, self.spells = rng, unseen, spells

    def draw(self, kind: str) -> Value:
        """A value of an open kind that is on the wanted side, or any of a closed kind.

        Raises:
            KeyError: no such kind.
        """
        if kind in CLOSED:
            return CLOSED[kind](self.rng)
        make = OPEN[kind]
        for _ in range(_TRIES):
            value = make(self.rng)
            anew = self.spells and (kind in SPELLED or isinstance(value, int))
            if anew and self.rng.random() < SPELLED_SHARE:
                value = _number_anew(self.rng) if isinstance(value, int) else _spelled_anew(value, self.rng)
            if is_held_out(kind, value) == self.unseen:
                return value
        raise AssertionError(f"kind {kind} has too few values")


@cache
def words(name: str) -> tuple[str, ...]:
    """A list of `words.toml`."""
    return tuple(_lists()[name].split())


@cache
def _lists() -> Mapping[str, str]:
    return tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def plural(noun: str) -> str:
    """Of a noun of `words.toml`."""
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


@cache
def _after_a(name: str) -> tuple[str, ...]:
    """Words of a list that "a" goes before, and not "an"."""
    return tuple(word for word in words(name) if word[0] not in "aeiou" and not word.startswith("ho"))


def invented(rng: random.Random, ends: str = "ends") -> str:
    middle = rng.choice(words("middles")) if rng.random() < 0.6 else ""
    return rng.choice(words("starts")) + middle + rng.choice(words(ends))


def _number_anew(rng: random.Random) -> int:
    """A number that is told to be an argument's by what stands around it, and not by its size."""
    return rng.randint(1, 10 ** rng.randint(1, MOST_DIGITS) - 1)


def _spelled_anew(value: str, rng: random.Random) -> str:
    """The value with letters for its first word, a consonant first: "a" may go before it."""
    first, *others = value.split(" ")
    drawn = rng.random()
    if drawn < WORDS_SHARE:
        others = []
    elif drawn < 2 * WORDS_SHARE:
        others.insert(0, _word(rng, first[0].isupper()))
    return " ".join((_word(rng, first[0].isupper()), *others))


def _word(rng: random.Random, name: bool) -> str:
    word = ""
    for _ in range(rng.randint(2, 3)):
        word += rng.choice(_CONSONANTS) + rng.choice(_VOWELS)
        word += rng.choice(_CONSONANTS) if rng.random() < 0.4 else ""
    return word.capitalize() if name else word


def _person(rng: random.Random) -> str:
    return invented(rng) if rng.random() < INVENTED_SHARE else rng.choice(words("persons"))


def _city(rng: random.Random) -> str:
    return invented(rng, "town_ends") if rng.random() < INVENTED_SHARE else rng.choice(words("cities"))


def _street(rng: random.Random) -> str:
    name = invented(rng) if rng.random() < INVENTED_SHARE else rng.choice(words("nouns")).capitalize()
    return f"{name} {rng.choice(words('street_ends'))}"


def _title(rng: random.Random) -> str:
    return f"{rng.choice(words('adjectives')).capitalize()} {rng.choice(words('nouns')).capitalize()}"


def _artist(rng: random.Random) -> str:
    if rng.random() < INVENTED_SHARE:
        return f"The {rng.choice(words('plurals'))}" if rng.random() < 0.3 else _person(rng)
    return f"{_person(rng)} {invented(rng)}"


def _thing(rng: random.Random) -> str:
    return f"{rng.choice(_after_a('adjectives'))} {rng.choice(words('nouns'))}"


def _food(rng: random.Random) -> str:
    food = rng.choice(words("foods"))
    return f"{rng.choice(words('adjectives'))} {food}" if rng.random() < 0.5 else food


def _sentence(rng: random.Random) -> str:
    """What somebody may want said or translated."""
    thing, other = _thing(rng), rng.choice(words("nouns"))
    return rng.choice(
        (
            f"the {thing} is behind the {other}",
            f"where is the {thing}",
            f"I left the {thing} in the {rng.choice(words('rooms'))}",
            f"please bring the {thing} and a {other}",
            f"my {thing} needs a new {other}",
            f"we sold the {thing}",
        )
    )


def _time(rng: random.Random) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(words('months'))}"


def _company(rng: random.Random) -> str:
    return f"{invented(rng)} {rng.choice(words('company_ends'))}"


def _between(least: int, most: int) -> Callable[[random.Random], Value]:
    return lambda rng: rng.randint(least, most)


def _one_of(name: str) -> Callable[[random.Random], Value]:
    return lambda rng: rng.choice(words(name))


OPEN: Final[Mapping[str, Callable[[random.Random], Value]]] = {
    "person": _person,
    "city": _city,
    "street": _street,
    "title": _title,
    "place": _title,
    "artist": _artist,
    "thing": _thing,
    "food": _food,
    "sentence": _sentence,
    "time": _time,
    "date": _date,
    "company": _company,
    "amount": _between(3, 9_999),
    "minutes": _between(2, 240),
    "calories": _between(20, 1_400),
    "price": _between(5, 900),
    "percent": _between(1, 99),
    "count": _between(11, 99),
    "gap": _between(11, 75),
    "number": _between(11, 999),
    "height": _between(3, 400),
    "distance": _between(60, 6_000),
}
"""Kinds of which a share is held out."""

CLOSED: Final[Mapping[str, Callable[[random.Random], Value]]] = {
    "day": _one_of("days"),
    "language": _one_of("languages"),
    "currency": _one_of("currencies"),
    "list": _one_of("lists"),
    "room": _one_of("rooms"),
    "sky": _one_of("skies"),
    "people": _between(2, 12),
    "degrees": _between(5, 30),
    "noun": _one_of("nouns"),
    "object": lambda rng: rng.choice(_after_a("nouns")),
    "small": _between(2, 9),
}
"""Kinds with few values, which training must know."""

MAKERS: Final[Mapping[str, Callable[[random.Random], Value]]] = {**OPEN, **CLOSED}
"""Both."""
