"""Chunks as they are read from the file of a memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from device_sim.companion.memory.database import damaged
from device_sim.companion.memory.sayings import Hit, Known
from device_sim.companion.memory.vectors import Vectors
from personality_common.errors import ToolkitError

MOST_CHUNKS: Final = 500_000
"""Of one user: 768 MB as float32, and a search of 40 ms."""
_ROWS: Final = 1024
"""That are read at once."""
_LATEST: Final = "ORDER BY s.time DESC, s.turn DESC, s.part DESC"


def load_vectors(connection: sqlite3.Connection, path: Path, user: str, dim: int) -> Vectors:
    """All vectors of a user.

    Raises:
        DamagedMemory: one is not `dim` finite numbers.
        ToolkitError: there are more than `MOST_CHUNKS`.
    """
    vectors = Vectors(dim)
    rows = connection.execute(
        "SELECT id, hidden_by IS NULL, vector FROM chunks WHERE user = ? ORDER BY id", (user,)
    )
    while block := rows.fetchmany(_ROWS):
        if any(not isinstance(row[2], bytes) or len(row[2]) != 2 * dim for row in block):
            raise damaged(path, f"has a vector that is not of {dim} numbers")
        read = np.frombuffer(b"".join(row[2] for row in block), "<f2").reshape(-1, dim)
        if not np.isfinite(read).all():
            raise damaged(path, "has a vector with numbers that are none")
        if len(vectors.ids) + len(block) > MOST_CHUNKS:
            raise ToolkitError(
                f"{path}: a user may have {MOST_CHUNKS:,} chunks, {user!r} has more; forget some"
            )
        ids, shown = np.array([row[0] for row in block]), np.array([row[1] for row in block], bool)
        vectors.append(ids, read, shown)
    return vectors


def hit(connection: sqlite3.Connection, chunk: int, score: float, dense: float, lexical: float) -> Hit:
    """A chunk with its latest saying, and what it scored."""
    turn, part, time, text, role = connection.execute(
        "SELECT s.turn, s.part, s.time, c.text, c.role FROM chunks c JOIN sayings s ON s.chunk = c.id"
        f" WHERE c.id = ? {_LATEST} LIMIT 1",
        (chunk,),
    ).fetchone()
    return Hit(f"{turn}.{part}", turn, text, time, role, score, dense, lexical)


def known_chunks(connection: sqlite3.Connection, user: str | None, uses: Mapping[str, str]) -> list[Known]:
    """See `Memory.audit`."""
    rows = connection.execute(
        "SELECT c.id, c.text, c.user, c.role, c.hidden_by, c.why, s.turn, s.part, s.time, s.tags, s.source"
        f" FROM chunks c JOIN sayings s ON s.chunk = c.id WHERE ?1 IS NULL OR c.user = ?1 {_LATEST}",
        (user,),
    ).fetchall()
    names: dict[int, list[str]] = {}
    for row in rows:
        names.setdefault(row[0], []).append(f"{row[6]}.{row[7]}")
    known: dict[int, Known] = {}
    for chunk, text, who, role, hidden_by, why, _, _, time, tags, source in rows:
        if chunk in known:
            continue
        said = names[chunk]
        turns = tuple(dict.fromkeys(name.rpartition(".")[0] for name in said))
        used = max((uses[name] for name in said if name in uses), default=None)
        by = names[hidden_by][0] if hidden_by in names else None
        known[chunk] = Known(
            said[0], text, who, role, time, tuple(json.loads(tags)), source, turns, tuple(said), by, why, used
        )
    return list(known.values())
