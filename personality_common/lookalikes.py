"""Words that look alike and are not the same: nobody sees which one a model means."""

from __future__ import annotations

import unicodedata
from typing import Final

_CASED: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "COPTIC", "ARMENIAN", "CHEROKEE", "DESERET"})
"""Scripts whose letters look like those of another one of these; no word has letters of two."""
_JOINERS: Final = "\u200c\u200d"
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Not to be seen, and letters or signs by category."""
_SELECTORS: Final = (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_TWINS: Final = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеорсухѕіјһԁԛԝѵΑΒΕΖΗΙΚΜΝΟΡΤΥΧονϲοϳ", "ABESIJKMHOPCTYXaeopcyxsijhdqwvABEZHIKMNOPTYXovcoj"
)
"""Letters of Cyrillic and Greek that are drawn as Latin ones are. Source: Unicode Technical Standard 39,
`intentional.txt`."""


def hidden(word: str) -> str | None:
    """The first character of a word that cannot be seen, or turns others around; None where there is none.

    A joiner is part of the word between letters that have no case (Persian, Hindi) and in emoji.
    """
    for i, character in enumerate(word):
        if character in _JOINERS and 0 < i < len(word) - 1 and not (word[i - 1] + word[i + 1]).isascii():
            around = {unicodedata.category(word[i - 1]), unicodedata.category(word[i + 1])}
            if around <= {"Lo", "Mn", "Mc", "So", "Sk"}:
                continue
        category = unicodedata.category(character)
        if category in ("Cf", "Co", "Cn") or (category == "Zs" and character != " "):
            return character
        if character in _INVISIBLE or (ord(character) in _SELECTORS and (i == 0 or word[i - 1].isalnum())):
            return character
    return None


def mixed_scripts(word: str) -> str | None:
    """Two scripts that a word mixes and that have letters which look alike: "CYRILLIC and LATIN"; or None."""
    scripts = {unicodedata.name(c, "").split(" ")[0] for c in word if c.isalpha()} & _CASED
    return " and ".join(sorted(scripts)) if len(scripts) > 1 else None


def skeleton(word: str) -> str:
    """Equal for words that cannot be told apart by eye, as far as is known here; not for showing."""
    plain = unicodedata.normalize("NFKC", word).translate(_TWINS)
    return unicodedata.normalize("NFC", "".join(c for c in plain if hidden(c) is None))
