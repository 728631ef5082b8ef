"""A check of the gate with its reason, and sets of one kind as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple

from device_sim.night.gate.evidence import Change, Kind, Paired
from personality_common.evidence.claims import Check, claim
from personality_common.printable import excerpt

CHANGED: Final = 0.5
"""A task changes sides where its score moves by so much."""
SHOWN: Final = 3
"""Tasks and leaks that a reason quotes."""
_EXCERPT: Final = 40


class Finding(NamedTuple):
    """A check, and what a person is told if it fails."""

    check: Check
    reason: str = ""


def unmeasured(id: str, name: str, what: str) -> Finding:
    """What was not measured is not shown to be kept."""
    return Finding(claim(id, name, False, "not measured"), f"{what} must be measured, and was not")


def joined(sets: Iterable[Paired], kind: Kind, *kinds: Kind) -> Paired:
    """All sets of some kinds as one: a set without groups is one; names and answers where any has them."""
    found = [paired for paired in sets if paired.kind in (kind, *kinds)]
    named, told = (any(getattr(paired, values) for paired in found) for values in ("names", "answers"))
    return Paired(
        kind,
        kind,
        tuple(chain.from_iterable(paired.before for paired in found)),
        tuple(chain.from_iterable(paired.after for paired in found)),
        tuple(chain.from_iterable(p.names or _numbered(p) for p in found)) if named else (),
        tuple(chain.from_iterable(p.groups or [p.kind] * len(p.before) for p in found)),
        tuple(chain.from_iterable(p.answers or [("", "")] * len(p.before) for p in found)) if told else (),
    )


def changes(sets: Iterable[Paired], *, for_better: bool) -> tuple[Change, ...]:
    """Tasks that changed sides, of all sets that are answers."""
    found = []
    for paired in sets:
        if paired.kind in ("personal", "remembered", "unasked", "capability", "style", "safety"):
            names = paired.names or _numbered(paired)
            for i, gain in enumerate(paired.gains):
                if (gain if for_better else -gain) >= CHANGED:
                    found.append(Change(names[i], *(paired.answers[i] if paired.answers else ("", ""))))
    return tuple(found)


def _numbered(paired: Paired) -> list[str]:
    return [f"{paired.name} {i + 1}" for i in range(len(paired.before))]


def quoted(lost: Sequence[Change]) -> str:
    """The first tasks that were lost: `: 'capital of France' answered 'Mia', before 'Paris'`."""
    shown = [
        f"{change.name!r} answered {short(change.after)}, before {short(change.before)}"
        if change.before or change.after
        else repr(change.name)
        for change in lost[:SHOWN]
    ]
    more = f"; and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    return f": {'; '.join(shown)}{more}" if shown else ""


def short(answer: str) -> str:
    return f"'{excerpt(answer.strip(), _EXCERPT)}'"


def examples(n: int) -> str:
    return f"{n} example{'s' if n != 1 else ''}"
