"""A turn's text, cut into pieces that the encoder reads whole."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import Final

SHORTEST: Final = 512
"""Characters of a chunk of a text that has several."""
LONGEST: Final = 1_000
"""Characters: about the 256 tokens after which MiniLM cuts a text off."""
OVERLAP: Final = 200
"""Characters of the one before that a chunk repeats at most; a last that would be short repeats more."""

_SENTENCE_END: Final = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+|\n+\s*")
_GAP: Final = re.compile(r"\s+")


def split(text: str) -> list[str]:
    """The chunks of a text: itself where it is short, nothing where it is blank.

    Otherwise 512 to 1,000 characters each, cut behind a sentence, or else between words, or else anywhere;
    each begins with whole sentences, or else words, of the one before. What lies between two chunks is white.
    """
    text = text.strip()
    if len(text) <= LONGEST:
        return [text] if text else []
    sentences = [found.end() for found in _SENTENCE_END.finditer(text)]
    words = [found.end() for found in _GAP.finditer(text)]
    chunks: list[str] = []
    start = 0
    while len(text) - start > LONGEST:
        end = _last(sentences, words, start + SHORTEST, start + LONGEST)
        chunks.append(text[start:end].strip())
        start = _first(sentences, words, end - OVERLAP, end)
    if len(text) - start < SHORTEST:
        start = _last(sentences, words, len(text) - LONGEST, len(text) - SHORTEST)
    chunks.append(text[start:].strip())
    return chunks


def _last(sentences: list[int], words: list[int], low: int, high: int) -> int:
    """The last cut in (low, high]."""
    for cuts in (sentences, words):
        at = bisect_right(cuts, high) - 1
        if at >= 0 and cuts[at] > low:
            return cuts[at]
    return high


def _first(sentences: list[int], words: list[int], low: int, high: int) -> int:
    """The first cut in [low, high); `high` where there is none, as then nothing can be repeated."""
    for cuts in (sentences, words):
        at = bisect_left(cuts, low)
        if at < len(cuts) and cuts[at] < high:
            return cuts[at]
    return high
