"""A verdict in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from personality_common.evidence.claims import Check
from personality_common.printable import printable
from personality_common.terminal.tables import NO_BREAK, Column, Grid

WIDE: Final = 120
"""Columns from which on figures, limits and details stand side by side."""
_MARKS: Final = {
    "passed": Text("✓ passed", "green"),
    "failed": Text("✗ failed", "bold red"),
    "not judged": Text("– not judged", "dim"),
}


@dataclass(frozen=True)
class ChecksTable:
    """A row per check; figures are never cut off, names and details wrap."""

    checks: Sequence[Check]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._wide() if options.max_width >= WIDE else self._narrow()

    def _wide(self) -> Grid:
        columns = (
            Column(""), Column("", "text"), Column("", "figure"), Column(""), Column("", "text", style="dim"),
        )  # fmt: skip
        rows = [(_MARKS[c.status], _name(c), c.figure, c.must, c.detail) for c in self.checks]
        return Grid(columns, rows)

    def _narrow(self) -> Grid:
        rows = []
        for check in self.checks:
            # Figure and limit belong together, whatever the width.
            parts = (Text(check.against.replace(" ", NO_BREAK)), Text(printable(check.detail), "dim"))
            found = Text("\n").join(part for part in parts if part.plain)
            rows.append((_MARKS[check.status], _name(check), found))
        return Grid((Column(""), Column("", "text"), Column("", "text")), rows)


def _name(check: Check) -> str:
    return f"{check.about}: {check.name}" if check.about else check.name
