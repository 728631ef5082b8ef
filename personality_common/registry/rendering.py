"""Tables of the commands that show versions, of whatever kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from personality_common.evidence.claims import apart
from personality_common.registry.record import Record, Stored
from personality_common.registry.registry import Audit, Version
from personality_common.terminal.tables import Column, Grid, facts, figures


@dataclass(frozen=True)
class Figure:
    """A column of the list: a figure from before or after the update, and how it is written."""

    title: str
    when: Literal["before", "after"]
    name: str
    form: str


def versions_table(versions: Sequence[Version], shown: Sequence[Figure]) -> Grid:
    """A line for each version; where it is narrow without times of day, then without parents and dates."""
    columns = (
        Column("version"), Column("state", "text"), Column("parent", drop=2), Column("created", drop=3),
        Column("at", drop=1), *figures(*(figure.title for figure in shown)), Column("gates", "text"),
    )  # fmt: skip
    rows = []
    for line in versions:
        state = [word for word, holds in (("active", line.active), ("pinned", line.pinned)) if holds]
        if line.stored is None:
            blank = [""] * (len(columns) - 3)
            rows.append([line.version, ", ".join([*state, "damaged"]), *blank, line.damage or ""])
            continue
        record = line.stored.record
        parents = ", ".join(parent.split("-")[0] for parent in record.parents)
        day, _, time = record.created.partition("T")
        numbers = [_number(getattr(record, f.when).get(f.name), f.form) for f in shown]
        rows.append([line.version, ", ".join(state), parents, day, time[:5], *numbers, _gates(record)])
    return Grid(columns, rows)


def audit_tables(found: Audit) -> list[Grid]:
    """Whether each version is whole; which was active when."""
    bytes_ = [(version, damage or "as recorded") for version, damage in found.damage.items()]
    until = [*(entry.at for entry in found.log[1:]), "now"]
    log = [(e.version, e.at, end, e.how) for e, end in zip(found.log, until, strict=False)]
    tables = (
        Grid((Column("version"), Column("bytes", "text")), bytes_),
        Grid((Column("active"), Column("from"), Column("until", drop=2), Column("how", drop=1)), log),
    )
    return [table for table in tables if table.rows]


def record_tables(stored: Stored) -> list[Grid]:
    """What a version is; its gates; its metrics."""
    record = stored.record
    about = (
        ("version", stored.version),
        ("parent", ", ".join(record.parents) or "none: it shipped"),
        ("created", record.created),
        *((f"{name} fingerprint", value) for name, value in {**record.identity, **record.data}.items()),
        *((f"{name} SHA-256", file.sha256) for name, file in stored.files.items()),
        *((f"setting {name}", str(value)) for name, value in record.settings.items()),
    )
    gates = [(gate.name, "passed" if gate.passed else "failed", gate.detail) for gate in record.gates]
    metrics = [
        (name, *apart(record.before.get(name), record.after.get(name)))
        for name in sorted({*record.before, *record.after})
    ]
    tables = (
        facts(about),
        Grid((Column("gate", "text"), Column("verdict"), Column("detail", "text")), gates),
        Grid((Column("metric", "text"), *figures("before", "after")), metrics),
    )
    return [table for table in tables if table.rows]


def _gates(record: Record) -> str:
    if failed := [gate.name for gate in record.gates if not gate.passed]:
        return f"failed: {', '.join(failed)}"
    return f"{len(record.gates)} passed" if record.gates or record.parents else "shipped"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
