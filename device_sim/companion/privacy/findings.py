"""What was found where, and how findings that overlap become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

KINDS: Final = (
    "secret",
    "card",
    "iban",
    "ssn",
    "email",
    "phone",
    "ip",
    "birth_date",
    "address",
    "person",
    "profanity",
)
"""Of findings that overlap, the first of these names the whole."""

PERSON: Final = "person"
PROFANITY: Final = "profanity"
LIMITS: Final[Mapping[str, frozenset[str]]] = {
    PERSON: frozenset({"no-train"}),
    PROFANITY: frozenset({"no-train", "no-memory"}),
}
"""Kinds that are found and not masked, and the tags of a turn that has one."""


@dataclass(frozen=True)
class Finding:
    """A place in a text.

    Attributes:
        kind: one of `KINDS`.
        start: in Unicode code points.
        end: behind the last.
    """

    kind: str
    start: int
    end: int


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in their order, none touching another: what any rule found stays found.

    Overlapping ones become one from the first's start to the last's end; its kind comes first in `KINDS`.
    """
    result: list[Finding] = []
    for one in sorted(findings, key=lambda f: (f.start, f.end, KINDS.index(f.kind))):
        if result and one.start < result[-1].end:
            last = result.pop()
            kind = min(last.kind, one.kind, key=KINDS.index)
            one = Finding(kind, last.start, max(last.end, one.end))
        result.append(one)
    return result
