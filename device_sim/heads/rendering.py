"""What of `pt heads` is about heads alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from device_sim.heads.heads import HEAD_FILE
from personality_common.registry.record import Stored

if TYPE_CHECKING:
    from device_sim.heads.difference import HeadDifference, TokenChange


def stored_json(stored: Stored) -> dict[str, Any]:
    """A version as `--json` has it: a head has one parent and learns from feedback."""
    content = asdict(stored)
    record = content["record"]
    record["parent"] = next(iter(record.pop("parents")), None)
    record["feedback"] = record.pop("data").get("feedback")
    return content | {"head_sha256": stored.files[HEAD_FILE].sha256}


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
