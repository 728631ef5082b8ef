"""Tables of the commands that show versions, of whatever kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.markup import escape
from rich.table import Table

from personality_common.registry.record import Record, Stored
from personality_common.registry.registry import Audit, Version


@dataclass(frozen=True)
class Figure:
    """A column of the list: a figure from before or after the update, and how it is written."""

    title: str
    when: Literal["before", "after"]
    name: str
    form: str


def versions_table(versions: Sequence[Version], width: int, figures: Sequence[Figure]) -> Table:
    """A line for each version; on less than 96 columns without parents and times of day."""
    wide = width >= 96
    table = Table()
    titles = [figure.title for figure in figures]
    for name in ("version", "state", *(("parent",) if wide else ()), "created", *titles, "gates"):
        wraps = name in ("state", "gates")
        table.add_column(name, overflow="fold", no_wrap=not wraps, min_width=9 if wraps else None)
    for line in versions:
        state = [word for word, holds in (("active", line.active), ("pinned", line.pinned)) if holds]
        if line.stored is None:
            blank = [""] * (len(table.columns) - 3)
            table.add_row(line.version, ", ".join([*state, "damaged"]), *blank, escape(line.damage or ""))
            continue
        record = line.stored.record
        parents = ", ".join(parent.split("-")[0] for parent in record.parents)
        table.add_row(
            line.version,
            ", ".join(state),
            *([parents] if wide else []),
            escape(record.created[: 16 if wide else 10].replace("T", " ")),
            *(_number(getattr(record, f.when).get(f.name), f.form) for f in figures),
            escape(_gates(record)),
        )
    return table


def audit_tables(found: Audit) -> list[Table]:
    """Whether each version is whole; which was active when."""
    bytes_ = Table("version", "bytes")
    for version, damage in found.damage.items():
        bytes_.add_row(version, escape(damage) if damage else "as recorded")
    log = Table("active", "from", "until", "how")
    until = [*(entry.at for entry in found.log[1:]), "now"]
    for entry, end in zip(found.log, until, strict=False):
        log.add_row(entry.version, escape(entry.at), escape(end), entry.how)
    return [table for table in (bytes_, log) if table.row_count]


def record_tables(stored: Stored) -> list[Table]:
    """What a version is; its gates; its metrics."""
    record = stored.record
    about = Table(show_header=False)
    for name, value in (
        ("version", stored.version),
        ("parent", ", ".join(record.parents) or "none: it shipped"),
        ("created", record.created),
        *((f"{name} fingerprint", value) for name, value in {**record.identity, **record.data}.items()),
        *((f"{name} SHA-256", file.sha256) for name, file in stored.files.items()),
        *((f"setting {name}", value) for name, value in record.settings.items()),
    ):
        about.add_row(escape(name), escape(str(value)))
    gates = Table("gate", "verdict", "detail")
    for gate in record.gates:
        gates.add_row(escape(gate.name), "passed" if gate.passed else "failed", escape(gate.detail))
    metrics = Table("metric", "before", "after")
    for name in sorted({*record.before, *record.after}):
        metrics.add_row(escape(name), *(_number(v.get(name), ".4g") for v in (record.before, record.after)))
    return [table for table in (about, gates, metrics) if table.row_count]


def _gates(record: Record) -> str:
    if failed := [gate.name for gate in record.gates if not gate.passed]:
        return f"failed: {', '.join(failed)}"
    return f"{len(record.gates)} passed" if record.gates or record.parents else "shipped"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
