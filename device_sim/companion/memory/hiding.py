"""Which chunks a search does not show, since a later one says the same or takes their place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from device_sim.companion.memory.sameness import NEAR, agree
from device_sim.companion.memory.sayings import Why
from device_sim.companion.memory.vectors import Vectors

When: TypeAlias = tuple[str, str, int]


def settle(connection: sqlite3.Connection, view: Vectors, changed: Iterable[int]) -> None:
    """Decide anew for chunks that came, or whose latest saying changed, and for all that they concern.

    A chunk is hidden by the latest of those that say the same, or the opposite, later than itself.

    Args:
        view: all chunks of the user, these too.
    """
    changed = sorted(set(changed))
    related = _relations(connection, view, changed)
    others = sorted({chunk for found in related.values() for chunk in found} - set(changed))
    related |= _relations(connection, view, others)
    when = {
        chunk: _when(connection, chunk) for chunk in {*related, *(c for r in related.values() for c in r)}
    }
    for chunk, found in related.items():
        later = [other for other in found if when[other] > when[chunk]]
        by = max(later, key=when.__getitem__, default=None)
        connection.execute(
            "UPDATE chunks SET hidden_by = ?, why = ? WHERE id = ?", (by, by and found[by], chunk)
        )
        view.show(int(view.place(np.array([chunk]))[0]), by is None)


def _relations(connection: sqlite3.Connection, view: Vectors, chunks: list[int]) -> dict[int, dict[int, Why]]:
    """Chunk -> those that say the same as it, or something else of the same thing."""
    related: dict[int, dict[int, Why]] = {chunk: {} for chunk in chunks}
    if not chunks:
        return related
    texts: dict[int, tuple[str, str, str | None, str | None]] = {}

    def text(chunk: int) -> tuple[str, str, str | None, str | None]:
        if chunk not in texts:
            query = "SELECT role, text, what, value FROM chunks WHERE id = ?"
            texts[chunk] = connection.execute(query, (chunk,)).fetchone()
        return texts[chunk]

    places = view.place(np.array(chunks))
    for number, row in view.near(np.stack([view.vector(int(place)) for place in places]), NEAR):
        chunk, other = chunks[number], int(view.ids[row])
        if other != chunk and text(other)[0] == text(chunk)[0] and agree(text(other)[1], text(chunk)[1]):
            related[chunk][other] = "said again"
    for chunk in chunks:
        _, _, what, value = text(chunk)
        if what is not None:
            same = connection.execute(
                "SELECT o.id FROM chunks o JOIN chunks c ON o.user = c.user AND o.role = c.role"
                " WHERE c.id = ? AND o.what = ? AND o.value != ?",
                (chunk, what, value),
            )
            related[chunk] |= {other: "replaced" for (other,) in same}
    return related


def _when(connection: sqlite3.Connection, chunk: int) -> When:
    """When it was said last; no two chunks have one turn and part."""
    found: When = connection.execute(
        "SELECT time, turn, part FROM sayings WHERE chunk = ?"
        " ORDER BY time DESC, turn DESC, part DESC LIMIT 1",
        (chunk,),
    ).fetchone()
    return found
