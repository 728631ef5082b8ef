"""Strings from outside, made safe to show anywhere: terminal, page, XML, log."""

from __future__ import annotations

import re
from typing import Final

EXCERPT: Final = 200
"""Characters of a file that a message quotes at most."""
_NAME: Final = 40
_WORDS: Final = 3
"""Characters and words of what may be a token, and is no sentence."""
_OBEYED: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls: a terminal obeys them, XML has no place for them
    "\u202a-\u202e\u2066-\u2069"  # bidirectional formatting: text reads as something else
    "\ud800-\udfff\ufffe\uffff"  # no characters: UTF-8 and XML refuse them
)
_UNPRINTABLE: Final = re.compile(f"[{_OBEYED}]")
_NOT_ON_ONE_LINE: Final = re.compile(f"[{_OBEYED}\t\n\u2028\u2029]")


def printable(text: str) -> str:
    """The text with U+FFFD for every character that is not to be seen but obeyed; tabs and newlines stay.

    So do joiners (U+200C, U+200D), of which words of Persian and Hindi and many emoji are made.

    Source: XML 1.0, production 2 (Char); Unicode Technical Report 36, 2.2 (bidirectional text spoofing).
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def excerpt(value: object, most: int = EXCERPT) -> str:
    """The beginning of what a file says, on one line, with `\\x1b` for what `printable` would mark.

    Of a text that is longer than `most` it says how long.
    """
    text = str(value)
    shown = _NOT_ON_ONE_LINE.sub(lambda c: f"\\x{ord(c[0]):02x}", text[: most + 1])
    if len(text) <= most and len(shown) <= most:
        return shown
    return f"{shown[:most]}… ({len(text):,} characters)"


def described(value: object) -> str:
    """What stands in a file in another's place, for a message that must not quote what somebody wrote.

    A word or three are quoted, as a token has; of all else it says what it is: `a text of 340 characters`.
    """
    if isinstance(value, str) and (len(value) > _NAME or len(value.split()) > _WORDS):
        return f"a text of {len(value):,} characters"
    if isinstance(value, dict):
        return f"an object of {len(value):,} entries"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    return excerpt(repr(value), _NAME + 2)


def is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which no encoding can write."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def counted(number: int, noun: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
