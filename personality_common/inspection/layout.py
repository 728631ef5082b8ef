"""How what was found in a file is laid out in a terminal: titles, sections, pairs, tables.

Names come from the file: they are shown as excerpts, and as text, whatever markup they look like.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from personality_common.printable import excerpt

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


def print_section(console: Console, title: str, body: Table | Text) -> None:
    console.print(Text(title, style="bold"))
    console.print(Padding(body, (0, 0, 0, 2), expand=False))


def print_pairs(console: Console, title: str, pairs: Iterable[tuple[str, object]]) -> None:
    rows = list(pairs)
    if not rows:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", style="cyan", max_width=max(20, console.width * 3 // 5))
    table.add_column(overflow="fold")
    for key, value in rows[:ROWS]:
        add_row(table, key, excerpt(value, LONG))
    print_section(console, title + how_many(rows), table)


def how_many(rows: Sized) -> str:
    return f" ({ROWS} of {len(rows):,}; --json has all)" if len(rows) > ROWS else ""


def new_table(*columns: str, right: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    # Text, not str: a name that looks like rich's markup stays what it is.
    table.add_row(*(Text(excerpt(cell, 2 * LONG)) for cell in cells))
