"""Tables of `pt heads`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from device_sim.heads.difference import HeadDifference, TokenChange
from device_sim.heads.record import Stored
from device_sim.heads.store import Version


def versions_table(versions: Sequence[Version]) -> Table:
    table = Table()
    for name in ("version", "state", "parent", "created", "gates"):
        table.add_column(name, overflow="fold")
    for line in versions:
        state = [word for word, holds in (("active", line.active), ("pinned", line.pinned)) if holds]
        if line.stored is None:
            table.add_row(line.version, ", ".join([*state, "damaged"]), "", "", escape(line.damage or ""))
            continue
        record = line.stored.record
        failed = [gate.name for gate in record.gates if not gate.passed]
        gates = f"failed: {', '.join(failed)}" if failed else f"{len(record.gates)} passed"
        if record.parent is None and not record.gates:
            gates = "shipped"
        table.add_row(
            line.version, ", ".join(state), record.parent or "", escape(record.created), escape(gates)
        )
    return table


def record_tables(stored: Stored) -> list[Table]:
    """What a version is; its gates; its metrics."""
    record = stored.record
    about = Table(show_header=False)
    for name, value in (
        ("version", stored.version),
        ("parent", record.parent or "none: it shipped"),
        ("created", record.created),
        *((f"{name} fingerprint", value) for name, value in vars(record.identity).items()),
        ("feedback fingerprint", record.feedback or "none"),
        ("head SHA-256", stored.head_sha256),
        *((f"setting {name}", value) for name, value in record.settings.items()),
    ):
        about.add_row(escape(name), escape(str(value)))
    gates = Table("gate", "verdict", "detail")
    for gate in record.gates:
        gates.add_row(escape(gate.name), "passed" if gate.passed else "failed", escape(gate.detail))
    metrics = Table("metric", "before", "after")
    for name in sorted({*record.before, *record.after}):
        cells = (values.get(name) for values in (record.before, record.after))
        metrics.add_row(escape(name), *("" if value is None else f"{value:.4g}" for value in cells))
    return [table for table in (about, gates, metrics) if table.row_count]


def difference_tables(found: HeadDifference) -> list[Table]:
    """Norms and counts; tokens gained, lost and turned."""
    numbers = Table(show_header=False)
    numbers.add_row("weight change", f"{found.weight_norm:.4g} in {found.changed_weights} numbers")
    numbers.add_row("bias change", f"{found.bias_norm:.4g} in {found.changed_biases} numbers")
    numbers.add_row("relative to the head", f"{found.relative:.4g}")
    lists = (("gained in bias", found.gained), ("lost in bias", found.lost), ("turned", found.turned))
    return [numbers, *(_tokens(title, changes) for title, changes in lists if changes)]


def _tokens(title: str, changes: Sequence[TokenChange]) -> Table:
    table = Table("token", "bias", "norm of row", title=title, title_justify="left")
    for change in changes:
        table.add_row(escape(change.token), f"{change.bias:+.4g}", f"{change.weight:.4g}")
    return table
