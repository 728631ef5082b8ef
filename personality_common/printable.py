"""Strings from outside, made safe to show anywhere: terminal, page, XML, log."""

from __future__ import annotations

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls: a terminal obeys them, XML has no place for them
    "\u202a-\u202e\u2066-\u2069"  # bidirectional formatting: text reads as something else
    "\ud800-\udfff\ufffe\uffff]"  # no characters: UTF-8 and XML refuse them
)


def printable(text: str) -> str:
    """The text with U+FFFD for every character that is not to be seen but obeyed; tabs and newlines stay.

    Source: XML 1.0, production 2 (Char); Unicode Technical Report 36, 2.2 (bidirectional text spoofing).
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
