"""Tables of `pt memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from device_sim.companion.memory.sayings import Hit, Known
from personality_common.terminal.tables import Column, Grid, facts, figures

if TYPE_CHECKING:
    from device_sim.companion.memory.choosing import Chosen
    from device_sim.companion.memory.evaluation import Evaluation

SHOWN: Final = 200
_WHEN: Final = (Column("said"), Column("at", drop=1))


def hits_table(hits: Sequence[Hit]) -> Grid:
    """A line for each hit, the best first; where it is narrow without the parts of its score."""
    columns = (
        Column("score", "figure"), Column("dense", "figure", drop=2), Column("lexical", "figure", drop=3),
        Column("chunk"), *_WHEN, Column("text", "text"),
    )  # fmt: skip
    rows = [
        (*(f"{n:.3f}" for n in (h.score, h.dense, h.lexical)), h.chunk_id, *_time(h.time), _text(h.text))
        for h in hits
    ]
    return Grid(columns, rows)


def known_table(known: Sequence[Known]) -> Grid:
    """A line for each chunk, the latest first."""
    columns = (
        Column("chunk"), *_WHEN, Column("user", "text", drop=4), Column("by", drop=3),
        Column("last used", drop=2), Column("why", "text"), Column("text", "text"),
    )  # fmt: skip
    rows = []
    for chunk in known:
        last = " ".join(_time(chunk.last_used or "")).strip()
        more = (chunk.user, chunk.role, last, reason(chunk), _text(chunk.text))
        rows.append((chunk.chunk_id, *_time(chunk.time), *more))
    return Grid(columns, rows)


def reason(chunk: Known) -> str:
    """Why a chunk is there, and whether it is found."""
    times = len(chunk.turns)
    source = "" if chunk.source == "chat" else f", from {chunk.source}"
    said = f"said {times} times{source}" if times > 1 else f"said once{source}"
    return said if chunk.why is None else f"{said}; hidden: {chunk.why} by {chunk.hidden_by}"


def chunk_table(chunk: Known) -> Grid:
    """One chunk, whole."""
    return facts(
        [
            ("chunk", chunk.chunk_id),
            ("user", chunk.user),
            ("by", chunk.role),
            ("said", chunk.time),
            ("turns", ", ".join(chunk.turns)),
            ("tags", ", ".join(chunk.tags) or "none"),
            ("why", reason(chunk)),
            ("last used", chunk.last_used or "never"),
            ("text", chunk.text),
        ]
    )


def chosen_table(chosen: Sequence[Chosen]) -> Grid:
    """What will be forgotten."""
    columns = (Column("turn"), *_WHEN, Column("by", drop=2), Column("text", "text"))
    return Grid(columns, [(one.turn, *_time(one.time), one.role, _text(one.text)) for one in chosen])


def evaluation_table(found: Evaluation) -> Grid:
    """A row per ranking."""
    rows = [(name, f"{f.recall:.3f}", f"{f.mrr:.3f}") for name, f in found.figures.items()]
    return Grid((Column("ranking", "text"), *figures("recall@5", "MRR")), rows)


def _time(time: str) -> tuple[str, str]:
    """Day, and time of day."""
    return time[:10], time[11:16]


def _text(text: str) -> str:
    short = " ".join(text.split())
    return short if len(short) <= SHOWN else f"{short[:SHOWN]}…"
