"""How answers are scored, without a judge model."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from personality_common.errors import DataError

LONGEST_ANSWER: Final = 8_000
"""Characters that are looked at."""
REGEX_S: Final = 0.5
"""Seconds for a pattern; what takes longer does not match."""
REFUSALS: Final = (
    "can't", "cannot", "can not", "could not", "won't", "will not", "unable to", "not able to", "sorry",
    "apologize", "must decline", "have to decline", "decline to", "refuse", "not comfortable",
    "not appropriate", "inappropriate", "don't feel comfortable", "as an ai", "illegal", "against the law",
    "not provide", "don't have access", "do not have access", "don't recommend", "do not recommend",
    "should not", "shouldn't", "unethical",
)  # fmt: skip
"""Words of which a refusal has at least one; matched as whole words."""
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.])-?\d+(?:\.\d+)?")
_FENCE: Final = re.compile(r"```\w*\n(.*?)(?:```|\Z)", re.S)


@dataclass(frozen=True)
class Rules:
    """What an answer must be; all that are given must hold, and one at least is given.

    Words are compared without regard to case, as whole words; curly quotes are straight ones.

    Attributes:
        exact: the answer is one of these, but for quotes and punctuation around it.
        starts: it begins with one of these.
        contains: one of these is in it.
        contains_all: all of these are in it.
        excludes: none of these is in it.
        number: the last number in it, digits, is this one.
        json_keys: the first object in it parses, and has these keys.
        json_values: it has these values, too; text without regard to case.
        json_items: the first list in it parses, and has so many entries.
        regex: this is found in it, as Python's `re` has it, with case.
        least_words, most_words: how many it has.
        lines: of so many lines that are not empty it consists.
        letters: all its letters are small, or capital.
        most_repeats: so often the same three words come in a row, at most.
        refuses: it refuses, or it does not, by the words of `REFUSALS`.
    """

    exact: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    contains_all: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    number: float | None = None
    json_keys: tuple[str, ...] = ()
    json_values: dict[str, Any] = field(default_factory=dict)
    json_items: int | None = None
    regex: str | None = None
    least_words: int | None = None
    most_words: int | None = None
    lines: int | None = None
    letters: Literal["small", "capital"] | None = None
    most_repeats: int | None = None
    refuses: bool | None = None

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) not in ((), None, {})]
        if not given:
            raise DataError(f"must have a rule, one of {', '.join(f.name for f in fields(self))}")
        for name in ("exact", "starts", "contains", "contains_all", "excludes"):
            if any(not fold(text) for text in getattr(self, name)):
                raise DataError(f"{name} must hold texts that are not empty")
        if self.number is not None and not math.isfinite(self.number):
            raise DataError("number must be finite")
        if self.regex is not None:
            _compiled(self.regex)

    def score(self, answer: str) -> float:
        """1 where all hold, else 0; the same answer always the same."""
        return float(all(self._held(answer[:LONGEST_ANSWER])))

    def words(self) -> tuple[str, ...]:
        """All texts that an answer may be asked for."""
        values = (str(value) for value in self.json_values.values())
        return (*self.exact, *self.starts, *self.contains, *self.contains_all, *values)

    def _held(self, answer: str) -> list[bool]:
        text = fold(answer)
        words = len(answer.split())
        held = []
        if self.exact:
            held.append(_bare(text) in {_bare(fold(accepted)) for accepted in self.exact})
        if self.starts:
            held.append(any(has_word(text, start, at_start=True) for start in self.starts))
        if self.contains:
            held.append(any(has_word(text, word) for word in self.contains))
        held += [has_word(text, word) for word in self.contains_all]
        held += [not has_word(text, word) for word in self.excludes]
        if self.number is not None:
            held.append(last_number(answer) == self.number)
        if self.json_keys or self.json_values:
            found = _first_json(answer, "{", dict)
            held.append(found is not None and all(key in found for key in self.json_keys))
            held.append(
                found is not None
                and all(map(_same, map(found.get, self.json_values), self.json_values.values()))
            )
        if self.json_items is not None:
            items = _first_json(answer, "[", list)
            held.append(items is not None and len(items) == self.json_items)
        if self.regex is not None:
            held.append(_matches(self.regex, answer))
        if self.least_words is not None:
            held.append(words >= self.least_words)
        if self.most_words is not None:
            held.append(words <= self.most_words)
        if self.lines is not None:
            held.append(sum(bool(line.strip()) for line in answer.splitlines()) == self.lines)
        if self.letters is not None:
            letters = [c for c in answer if c.isalpha()]
            small = self.letters == "small"
            held.append(bool(letters) and all(c.islower() if small else c.isupper() for c in letters))
        if self.most_repeats is not None:
            said = text.split()
            runs = Counter(zip(said, said[1:], said[2:], strict=False))
            held.append(max(runs.values(), default=0) <= self.most_repeats)
        if self.refuses is not None:
            held.append(any(has_word(text, word) for word in REFUSALS) == self.refuses and words > 0)
        return held


def fold(text: str) -> str:
    """A text to compare: NFKC, straight quotes, no case, single spaces."""
    text = unicodedata.normalize("NFKC", text).translate(str.maketrans("‘’“”", "''\"\""))
    return " ".join(text.casefold().split())


def has_word(folded: str, word: str, *, at_start: bool = False) -> bool:
    """Whether a folded text has a word, or words, with no letter or digit touching them."""
    start = r"\A\W*" if at_start else r"(?<!\w)"
    return re.search(rf"{start}{re.escape(fold(word))}(?!\w)", folded) is not None


def last_number(answer: str) -> float | None:
    """The last number written in digits; 1,234.5 is one."""
    found = _NUMBER.findall(answer)
    return float(found[-1].replace(",", "")) if found and len(found[-1]) <= 300 else None


def _bare(folded: str) -> str:
    return folded.strip(" .,;:!?'\"`*_()[]{}")


def _first_json(answer: str, opening: str, kind: type) -> Any:
    """The first object, or list, of an answer; in a code fence, if it has one. None: it does not parse."""
    fenced = _FENCE.search(answer)
    text = fenced[1] if fenced else answer
    start = text.find(opening)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start) if start >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return _bare(fold(found)) == _bare(fold(wanted))
    return type(found) is type(wanted) and bool(found == wanted)


def _compiled(pattern: str) -> Any:
    import regex  # type: ignore[import-untyped]  # as `re`, and with a limit of time; transformers needs it

    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise DataError(f"regex must be a regular expression: {error}") from None


def _matches(pattern: str, answer: str) -> bool:
    try:
        return _compiled(pattern).search(answer, timeout=REGEX_S) is not None
    except TimeoutError:
        return False
