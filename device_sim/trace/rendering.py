"""A trace as a table for people, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from device_sim.trace.config import TraceConfig
from device_sim.trace.records import Error, Note, OpTrace, Overflow, by_accumulated, by_added
from personality_common.terminal.tables import Column, Grid

SCHEMA: Final = 1
"""Of trace.schema.json."""


def to_json(config: TraceConfig, records: list[OpTrace]) -> str:
    """Both rankings, after trace.schema.json."""
    found = {
        "schema": SCHEMA,
        "package": str(config.package),
        "input": str(config.input),
        "against": config.against,
        "values": len(records),
        "not_compared": dict(_not_compared(records)),
        "added": [_plain(record) for record in by_added(records)[: config.top]],
        "accumulated": [_plain(record) for record in by_accumulated(records)[: config.top]],
    }
    return json.dumps(found, allow_nan=False)


def _plain(record: OpTrace) -> dict[str, Any]:
    """With null for what is not finite, which JSON has no number for."""
    plain = dataclasses.asdict(record)
    for name in ("added", "accumulated"):
        if plain[name] is not None:
            plain[name] = {k: v if math.isfinite(v) else None for k, v in plain[name].items()}
    return plain


def report(config: TraceConfig, records: list[OpTrace], outputs: Collection[str]) -> RenderableType:
    """The ops that add most error, worst first.

    Args:
        outputs: names of the model's outputs, whose errors are summed up at the end.
    """
    ranked = [record for record in by_added(records) if _wrong(record)][: config.top]
    accumulated = {id(record): rank for rank, record in enumerate(by_accumulated(records), 1)}
    rows = [_cells(rank, record, accumulated[id(record)]) for rank, record in enumerate(ranked, 1)]
    if not ranked:
        return Text(f"{config.package}: {len(records)} values against {config.against}, all the same")
    lines: list[RenderableType] = [
        Text(f"{config.package}: {len(records)} values against {config.against}, by the error added"),
        Grid(_COLUMNS, rows),
        Text(
            "error: root mean square over that of the reference; max: greatest difference; "
            "#: rank by accumulated error"
        ),
    ]
    for worst in by_accumulated(records)[:1]:
        lines.append(Text(f"most has accumulated in {_place(worst)}: {_number(worst.accumulated.relative)}"))
    ends = {record.output: record for record in records if record.output in outputs}
    for name, end in ends.items():
        lines.append(Text(f"output {name}: {_number(end.accumulated.relative)}"))
    if missing := _not_compared(records):
        names = ", ".join(f"{op} ({count})" for op, count in sorted(missing.items()))
        lines.append(Text(f"not compared: {names}"))
    return Group(*lines)


_COLUMNS: Final = (
    Column("", "figure"), Column("at", "figure", drop=4), Column("op", "text"), Column("output", "text"),
    Column("error added", "figure"), Column("max added", "figure", drop=2), Column("accumulated", "figure"),
    Column("#", "figure", drop=3), Column("shape", "text", drop=6), Column("range", drop=5),
    Column("overflow"), Column("", "text", drop=1),
)  # fmt: skip


def _wrong(record: OpTrace) -> bool:
    return bool(record.overflow or record.accumulated.max_abs or (record.added and record.added.max_abs))


def _cells(rank: int, record: OpTrace, accumulated: int) -> tuple[Text, ...]:
    position = "" if record.position is None else str(record.position)
    model = f"{record.model}/" if record.model else ""
    error = record.added
    low, high = record.low, record.high
    flag = {
        Overflow.HERE: Text("overflows", "bold red"),
        Overflow.NAN: Text("makes NaN", "bold red"),
        Overflow.BEFORE: Text("not finite before", "yellow"),
        Overflow.NO: Text(""),
    }
    return (
        Text(str(rank)), Text(position, "dim"), Text(record.op, "bold"), Text(model + record.output),
        _shown(error, "relative"), _shown(error, "max_abs"), _shown(record.accumulated, "relative"),
        Text(str(accumulated), "dim"), Text(str(record.shape)), Text(f"{low:.3g} … {high:.3g}"),
        flag[record.overflow], Text(record.note, "dim"),
    )  # fmt: skip


def _shown(error: Error | None, name: str) -> Text:
    return Text("–" if error is None else _number(getattr(error, name)))


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{value:.2g}" if value in (0, math.inf) else f"{value:.1e}"


def _place(record: OpTrace) -> str:
    model = f"{record.model}/" if record.model else ""
    at = "" if record.position is None else f", operation {record.position}"
    return f"{model}{record.output} ({record.op}{at})"


def _not_compared(records: list[OpTrace]) -> Counter[str]:
    return Counter(record.op for record in records if record.note is Note.NOT_COMPARED)
