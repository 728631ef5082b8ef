"""Tables of `pt heads`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from device_sim.heads.heads import HEAD_FILE
from personality_common.evidence.claims import apart
from personality_common.registry.record import Record, Stored
from personality_common.registry.registry import Audit, Version
from personality_common.terminal.tables import Column, Grid, facts, figures

if TYPE_CHECKING:
    from device_sim.heads.difference import HeadDifference, TokenChange


def versions_table(versions: Sequence[Version]) -> Grid:
    """A line for each version; where it is narrow without times of day, then without parents and dates."""
    columns = (
        Column("version"), Column("state", "text"), Column("parent", drop=2), Column("created", drop=3),
        Column("at", drop=1), *figures("reward", "overlap"), Column("gates", "text"),
    )  # fmt: skip
    rows = []
    for line in versions:
        state = [word for word, holds in (("active", line.active), ("pinned", line.pinned)) if holds]
        if line.stored is None:
            blank = [""] * (len(columns) - 3)
            rows.append([line.version, ", ".join([*state, "damaged"]), *blank, line.damage or ""])
            continue
        record = line.stored.record
        day, _, time = record.created.partition("T")
        rows.append(
            [
                line.version,
                ", ".join(state),
                ", ".join(parent.split("-")[0] for parent in record.parents),
                day,
                time[:5],
                _number(record.before.get("reward_mean"), "+.2f"),
                _number(record.after.get("overlap_shipped"), ".2f"),
                _gates(record),
            ]
        )
    return Grid(columns, rows)


def _gates(record: Record) -> str:
    if failed := [gate.name for gate in record.gates if not gate.passed]:
        return f"failed: {', '.join(failed)}"
    return f"{len(record.gates)} passed" if record.gates or record.parents else "shipped"


def stored_json(stored: Stored) -> dict[str, Any]:
    """A version as `--json` has it: a head has one parent and learns from feedback."""
    content = asdict(stored)
    record = content["record"]
    record["parent"] = next(iter(record.pop("parents")), None)
    record["feedback"] = record.pop("data").get("feedback")
    return content | {"head_sha256": stored.files[HEAD_FILE].sha256}


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
        *((f"{name} fingerprint", value) for name, value in record.identity.items()),
        ("feedback fingerprint", record.data.get("feedback", "none")),
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


def difference_tables(found: HeadDifference) -> list[Grid]:
    """Norms and counts; tokens gained, lost and turned."""
    numbers = facts(
        [
            ("weight change", f"{found.weight_norm:.4g} in {found.changed_weights} numbers"),
            ("bias change", f"{found.bias_norm:.4g} in {found.changed_biases} numbers"),
            ("relative to the head", f"{found.relative:.4g}"),
        ]
    )
    lists = (("gained in bias", found.gained), ("lost in bias", found.lost), ("turned", found.turned))
    return [numbers, *(_tokens(title, changes) for title, changes in lists if changes)]


def _tokens(title: str, changes: Sequence[TokenChange]) -> Grid:
    rows = [(change.token, f"{change.bias:+.4g}", f"{change.weight:.4g}") for change in changes]
    return Grid((Column("token", "text"), *figures("bias", "norm of row")), rows, title)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
