"""How what was found in a file is laid out in a terminal: titles, sections, pairs, tables.

Names come from the file: they are shown as excerpts, and as text, whatever markup they look like.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from personality_common.printable import excerpt
from personality_common.terminal.tables import Column, Grid

LONG: Final = 100
"""Characters of a value."""
ROWS: Final = 60
"""Of lists that a stranger's file can make as long as he likes; `--json` has all."""


def human_bytes(size: int) -> str:
    """`29.0 MB`: decimal, as disks and app stores count."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            break
    return f"{value:.1f} {unit}"


def print_title(console: Console, path: str, facts: str) -> None:
    console.print(Text.assemble((excerpt(path, 1000), "bold"), f"  {facts}"), soft_wrap=True)


def print_section(console: Console, title: str, body: Grid | Text) -> None:
    console.print(Text(title, style="bold"))
    console.print(Padding(body, (0, 0, 0, 2), expand=False))


def print_pairs(console: Console, title: str, pairs: Iterable[tuple[str, object]]) -> None:
    rows = [(excerpt(key, 2 * LONG), excerpt(value, LONG)) for key, value in pairs]
    if rows:
        columns = (Column("", "text", style="cyan"), Column("", "text"))
        print_section(console, title + how_many(rows), Grid(columns, rows[:ROWS]))


def how_many(rows: Sized) -> str:
    return f" ({ROWS} of {len(rows):,}; --json has all)" if len(rows) > ROWS else ""


def cells(*values: str) -> tuple[str, ...]:
    """A row of what a file says."""
    return tuple(excerpt(value, 2 * LONG) for value in values)


def texts(*names: str) -> list[Column]:
    """Columns of what a file says, whatever it is."""
    return [Column(name, "text") for name in names]
