"""Phrasings taken apart: what stands around the values changes, what tells them apart stays.

A small model learns a few hundred phrasings by heart, and takes any other word for a value, or for a sign
that no tool fits. So some questions keep of a phrasing for sure only its values, each with the short words
before it ("to {to}", "at {percent} percent"), in any order, between words that mean nothing. Which tool is
asked for, and which value is which, can then be told by these alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pretrain.lm.data.values import invented, words

VERBATIM: Final = "{text}"
"""A value that ends a question, and begins behind what stands before it."""
UNITS: Final = frozenset(
    ("percent", "minutes", "minute", "calories", "list", "people", "guests", "persons", "seats", "shares")
)
"""Words behind a value that say what it is."""
SHARED: Final = 4
"""Tools whose phrasings must have a word, if it is to be one of the short ones that stay before a value."""
BEFORE: Final = 2
"""Of these, at most."""
KEPT: Final = 0.5
"""Share of the other words that stay."""
DROPPED: Final = 0.2
"""Share that goes without anything in its place."""
INVENTED: Final = 0.3
"""Share of the new words that are nobody's."""
SHUFFLED: Final = 0.5
"""Share of the questions whose values change places."""


@dataclass(frozen=True)
class Piece:
    """Words of a phrasing: a value, or values in a row, with what belongs to them; or words of no value."""

    words: tuple[str, ...]
    value: bool


def common_words(phrasings: Sequence[Sequence[str]]) -> frozenset[str]:
    """Words that phrasings of SHARED tools or more have.

    Args:
        phrasings: of each tool.
    """
    counts = Counter(word for some in phrasings for word in {w for p in some for w in p.lower().split()})
    return frozenset(word for word, count in counts.items() if count >= SHARED and "{" not in word)


def cut(phrasing: str, common: frozenset[str], all_before: bool) -> list[Piece]:
    """The pieces of a phrasing, in order.

    Args:
        all_before: what stands before a value stays whatever word it is, since it alone tells two values of
            one kind apart.
    """
    found: list[Piece] = []
    loose: list[str] = []
    given = phrasing.split()
    at = 0
    while at < len(given):
        if "{" not in given[at]:
            loose.append(given[at])
            at += 1
            continue
        value = []
        if given[at] == VERBATIM:
            value, loose = loose, []
        while loose and len(value) < BEFORE and (all_before or loose[-1].lower().strip(":,") in common):
            value.insert(0, loose.pop())
        while at < len(given) and ("{" in given[at] or given[at].strip(",:") in UNITS):
            value.append(given[at])
            at += 1
            if value[-1][-1] in ",:":
                break
        found += [Piece((word,), False) for word in loose]
        found.append(Piece(tuple(value), True))
        loose = []
    return found + [Piece((word,), False) for word in loose]


def loosened(pieces: Sequence[Piece], rng: random.Random) -> str:
    """A phrasing of the pieces' values; what ends with `{text}` still does."""
    values = [piece for piece in pieces if piece.value]
    last = [values.pop()] if values[-1].words[-1] == VERBATIM else []
    if rng.random() < SHUFFLED:
        rng.shuffle(values)
    left = iter(values + last)
    said: list[str] = []
    for piece in pieces:
        drawn = rng.random()
        if piece.value:
            said.append(" ".join(next(left).words))
        elif drawn < KEPT:
            said += piece.words
        elif drawn >= KEPT + DROPPED:
            said.append(_filler(rng))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        said.insert(rng.randrange(max(1, len(said) - len(last))), _filler(rng))
    return " ".join(said).rstrip(",:")


def _filler(rng: random.Random) -> str:
    return invented(rng).lower() if rng.random() < INVENTED else rng.choice(words("fillers"))
