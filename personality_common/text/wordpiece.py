"""Plain WordPiece, as an app writes it: text -> token ids, by uncased BERT's rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

MAX_TOKENS: Final = 256
"""Longest text, [CLS] and [SEP] included; what is beyond is cut off."""
SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS: Final = 100
"""A longer word is [UNK]."""

_SPECIAL: Final = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")
_CJK: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """Token ids of a text, with nothing but a vocabulary."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Args: vocabulary: tokens in the order of their ids, the lines of `vocab.txt`."""
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        self._unknown, self._cls, self._sep = (self._ids[token] for token in ("[UNK]", "[CLS]", "[SEP]"))

    def ids(self, text: str) -> list[int]:
        """[CLS], the pieces, [SEP]: 2 to `MAX_TOKENS` ids; pieces beyond are cut off.

        Special tokens that the text spells out count as such, as they did when the model was trained.
        """
        pieces: list[int] = []
        for i, part in enumerate(_SPECIAL.split(text)):
            if i % 2:
                pieces.append(self._ids[part])
            else:
                for word in words(part):
                    pieces += self._pieces(word)
        return [self._cls, *pieces[: MAX_TOKENS - 2], self._sep]

    def _pieces(self, word: str) -> list[int]:
        """Greedy: at each place the longest piece of the vocabulary; [UNK] if there is none."""
        if len(word) > MAX_WORD_CHARACTERS:
            return [self._unknown]
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                found = self._ids.get(prefix + word[start:end])
                if found is not None:
                    break
            else:
                return [self._unknown]
            pieces.append(found)
            start = end
        return pieces


def words(text: str) -> Iterator[str]:
    """Cleaned, without accents, in lower case, split at white space and around punctuation and CJK."""
    cleaned = "".join(_clean(text))
    bare = "".join(c for c in unicodedata.normalize("NFD", cleaned) if unicodedata.category(c) != "Mn")
    # Each character for itself: a whole word's final sigma would become another letter.
    for word in "".join(map(str.lower, bare)).split():
        start = 0
        for i, character in enumerate(word):
            if _is_punctuation(character):
                if start < i:
                    yield word[start:i]
                yield character
                start = i + 1
        if start < len(word):
            yield word[start:]


def _clean(text: str) -> Iterator[str]:
    """Drops control, format and private characters; any white space becomes a space; CJK stands alone."""
    for character in text:
        code = ord(character)
        if character in "\t\n\r" or unicodedata.category(character) == "Zs":
            yield " "
        elif character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs"):
            continue
        elif any(first <= code <= last for first, last in _CJK):
            yield f" {character} "
        else:
            yield character


def _is_punctuation(character: str) -> bool:
    """ASCII that is neither letter, digit nor control counts too, such as $ and ^."""
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")
