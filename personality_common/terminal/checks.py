"""A verdict in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from personality_common.evidence.claims import Check
from personality_common.printable import printable

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

    def _wide(self) -> Table:
        table = _grid()
        table.add_column(max_width=60, overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(style="dim", overflow="fold")
        for check in self.checks:
            cells = (_name(check), check.figure, check.must, check.detail)
            table.add_row(_MARKS[check.status], *(Text(printable(cell)) for cell in cells))
        return table

    def _narrow(self) -> Table:
        table = _grid()
        table.add_column(max_width=32, overflow="fold")
        table.add_column(overflow="fold")
        for check in self.checks:
            parts = (Text(check.against), Text(printable(check.detail), "dim"))
            found = Text("\n").join(part for part in parts if part.plain)
            table.add_row(_MARKS[check.status], Text(printable(_name(check))), found)
        return table


def _grid() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    return table


def _name(check: Check) -> str:
    return f"{check.about}: {check.name}" if check.about else check.name
