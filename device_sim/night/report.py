"""What the nights of a store came to, read from the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from device_sim.companion.log import read_events
from device_sim.companion.store import open_store
from device_sim.night.data import Item, collect
from device_sim.night.measuring import WORDING, Measured, read_measured
from device_sim.night.state import (
    AFTER_FILE,
    BEFORE_FILE,
    Night,
    folder_of,
    read_nights,
    versions_that_saw,
)
from personality_common.errors import DataError
from personality_common.evidence.claims import finite

SCHEMA: Final = 1
_LEFT_OUT: Final = ("new", "split", "saw", "turns", "until", "gate", "reasons")
"""Of the document: ids that only the next night needs, and what may quote answers."""


@dataclass(frozen=True)
class Answered:
    """A message that was held out, what the answer should be, and what was answered before and after."""

    said: str
    wanted: str
    before: str
    after: str


@dataclass(frozen=True)
class Task:
    """A task that changed sides."""

    name: str
    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Report:
    """The nights of a store, and one of them as a whole.

    Attributes:
        nights: oldest first.
        night: the one that is shown; None: there is none.
        unclean: versions that saw what was forgotten since.
        examples: of the night that is shown; () where its answers were removed, or none were given.
        lost, won: tasks of it.
        told: turn -> how a fact was told, of those whose questions the base worded.
        removed: its answers were removed, since something it saw was forgotten.
    """

    store: Path
    nights: tuple[Night, ...]
    night: Night | None
    unclean: tuple[str, ...]
    examples: tuple[Answered, ...] = ()
    lost: tuple[Task, ...] = ()
    won: tuple[Task, ...] = ()
    removed: bool = False
    told: Mapping[str, str] = field(default_factory=dict)


def read_report(store: Path, number: int | None = None) -> Report:
    """Read the nights; needs no lock and changes nothing.

    Args:
        number: the night that is shown as a whole; None: the last.

    Raises:
        DataError: no store, a damaged one, or no such night.
    """
    found = open_store(store)
    nights = tuple(read_nights(store))
    if not nights:
        return Report(store, (), None, ())
    shown = next((n for n in nights if n.number == number), None) if number is not None else nights[-1]
    if shown is None:
        raise DataError(
            f"{store}: --night must be from {nights[0].number} to {nights[-1].number}, is {number}"
        )
    data = collect(read_events(found.events), shown.settings.user)
    unclean = tuple(versions_that_saw(nights, data.forgotten))
    asked = {one.memory for one in shown.augmented}
    told = {item.turns[0]: item.told for item in data.items if item.told and item.turns[0] in asked}
    paths = [folder_of(store, shown.number) / name for name in (BEFORE_FILE, AFTER_FILE)]
    if not all(path.exists() for path in paths) or data.forgotten & set(shown.turns):
        return Report(store, nights, shown, unclean, removed=shown.training is not None, told=told)
    before, after = map(read_measured, paths)
    items = {item.id: item for item in data.items}
    lost, won = (_tasks(names, before, after) for names in (shown.lost, shown.won))
    return Report(store, nights, shown, unclean, _examples(before, after, items), lost, won, told=told)


def document(report: Report) -> dict[str, Any]:
    """The figures, after `nights.schema.json`: no text of a conversation."""
    return {
        "schema": SCHEMA,
        "nights": [finite(_figures(night)) for night in report.nights],
        "unclean": list(report.unclean),
    }


def _figures(night: Night) -> dict[str, Any]:
    found = {name: value for name, value in asdict(night).items() if name not in _LEFT_OUT}
    parts = ("train", "validation", "held_out", "earlier", "recall", "left_out")
    counts = {name: len(getattr(night.split, name)) for name in parts}
    found["augmented"] = [
        {name: value for name, value in one.items() if name != "memory"} for one in found["augmented"]
    ]
    if night.head is not None:
        head = asdict(night.head)
        found["head"] = {name: value for name, value in head.items() if name not in _LEFT_OUT} | {
            "new": len(night.head.new)
        }
    return found | {"name": night.name, "examples": {"new": len(night.new), **counts}}


def outcome(night: Night) -> str:
    """In a word."""
    if night.step != "done":
        return "stopped"
    if night.accepted is None:
        return "nothing new"
    return "accepted" if night.accepted else "refused" if night.judged else "too little"


def _examples(before: Measured, after: Measured, items: Mapping[str, Item]) -> tuple[Answered, ...]:
    pairs = zip(before.sets.get(WORDING, ()), after.sets.get(WORDING, ()), strict=True)
    return tuple(
        Answered(items[one.name].said, items[one.name].answer, one.answer or "", other.answer or "")
        for one, other in pairs
        if one.name in items
    )


def _tasks(names: Sequence[str], before: Measured, after: Measured) -> tuple[Task, ...]:
    one, other = ({e.name: e for found in m.sets.values() for e in found} for m in (before, after))
    return tuple(
        Task(name, one[name].prompt or "", one[name].answer or "", other[name].answer or "")
        for name in names
        if name in one and name in other
    )
