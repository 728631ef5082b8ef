"""Tables of `pt memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.markup import escape
from rich.table import Table

from device_sim.companion.memory.choosing import Chosen
from device_sim.companion.memory.evaluation import Evaluation
from device_sim.companion.memory.sayings import Hit, Known
from personality_common.printable import printable

WIDE: Final = 96
SHOWN: Final = 200


def hits_table(hits: Sequence[Hit], width: int) -> Table:
    """A line for each hit, the best first; its parts on wide screens."""
    wide = width >= WIDE
    table = Table()
    for name in ("score", *(("dense", "lexical") if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("chunk", "said", "text"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        numbers = (hit.score, hit.dense, hit.lexical) if wide else (hit.score,)
        table.add_row(
            *(f"{n:.3f}" for n in numbers), _safe(hit.chunk_id), _time(hit.time, wide), _text(hit.text)
        )
    return table


def known_table(known: Sequence[Known], width: int) -> Table:
    """A line for each chunk, the latest first."""
    wide = width >= WIDE
    table = Table()
    for name in ("chunk", "said", *(("user", "by", "last used") if wide else ()), "why", "text"):
        table.add_column(name, overflow="fold")
    for chunk in known:
        more = (_safe(chunk.user), chunk.role, _time(chunk.last_used or "", wide)) if wide else ()
        table.add_row(
            _safe(chunk.chunk_id), _time(chunk.time, wide), *more, _safe(reason(chunk)), _text(chunk.text)
        )
    return table


def reason(chunk: Known) -> str:
    """Why a chunk is there, and whether it is found."""
    times = len(chunk.turns)
    source = "" if chunk.source == "chat" else f", from {chunk.source}"
    said = f"said {times} times{source}" if times > 1 else f"said once{source}"
    return said if chunk.why is None else f"{said}; hidden: {chunk.why} by {chunk.hidden_by}"


def chunk_table(chunk: Known) -> Table:
    """One chunk, whole."""
    table = Table(show_header=False)
    for name, value in (
        ("chunk", chunk.chunk_id),
        ("user", chunk.user),
        ("by", chunk.role),
        ("said", chunk.time),
        ("turns", ", ".join(chunk.turns)),
        ("tags", ", ".join(chunk.tags) or "none"),
        ("why", reason(chunk)),
        ("last used", chunk.last_used or "never"),
        ("text", chunk.text),
    ):
        table.add_row(name, _safe(value))
    return table


def chosen_table(chosen: Sequence[Chosen], width: int) -> Table:
    """What will be forgotten."""
    table = Table("turn", "said", "by", "text")
    for column in table.columns:
        column.overflow = "fold"
    for one in chosen:
        table.add_row(_safe(one.turn), _time(one.time, width >= WIDE), one.role, _text(one.text))
    return table


def evaluation_table(found: Evaluation) -> Table:
    table = Table("ranking", "recall@5", "MRR")
    for name, figures in found.figures.items():
        table.add_row(name, f"{figures.recall:.3f}", f"{figures.mrr:.3f}")
    return table


def _time(time: str, wide: bool) -> str:
    return _safe(time[: 16 if wide else 10].replace("T", " "))


def _text(text: str) -> str:
    short = " ".join(text.split())
    return _safe(short if len(short) <= SHOWN else f"{short[:SHOWN]}…")


def _safe(text: str) -> str:
    return escape(printable(text))
