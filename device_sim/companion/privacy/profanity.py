"""Slurs and obscenities, by the lists of glin-profanity (English), with `sh1t`, `f*ck` and `f u c k`.

A list of words: threats and contempt in plain words are not seen, and a word that is a name, too,
is where the rules for names do not know it as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from .findings import PROFANITY, Finding


def find_profanity(text: str) -> Iterator[Finding]:
    """Where the words begin that are on the list; of a word that comes again, each time it is written so."""
    for match in _scanner().check_profanity(text).get("matches", []):
        start = int(match["index"])
        yield Finding(PROFANITY, start, min(start + len(match["word"]), len(text)))


@cache
def _scanner() -> Any:
    from glin_profanity import Filter

    return Filter({"languages": ["english"]})
