"""Tables in a terminal: figures, ids and dates are whole at every width; columns go in a stated order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from personality_common.printable import printable

Cell: TypeAlias = str | Text
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
"""Between words of a text that stay on one line; is printed as a space."""
GAP: Final = 2
"""Columns of the screen between two of a table."""
_LEAST: Final = 24
"""Columns of the screen that a text is given, if it has so many, before columns go for its sake."""
_DIGEST_LENGTH: Final = 64
_DIGEST: Final = re.compile(rf"\b[0-9a-f]{{{_DIGEST_LENGTH}}}\b")
_JOINT: Final = re.compile("[,:/_]")
_DIGITS: Final = 12
"""Of a SHA-256 that has no room; `--json` has all."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        kind: figure: a number, to the right; word: an id, a date, a name of ours. Neither wraps. text: wraps
            between words, and within one that is longer than the column.
        drop: where there is no room the column with 1 goes first, then that with 2, …; one with 0 stays.
        style: of its cells that have none.
    """

    name: str
    kind: Literal["figure", "word", "text"] = "word"
    drop: int = 0
    style: str = ""


def figures(*names: str) -> list[Column]:
    """Columns of numbers that are there at every width."""
    return [Column(name, "figure") for name in names]


@dataclass(frozen=True)
class Grid:
    """A table that fits: columns go in the order of `drop`, which is said below it, and texts wrap.

    Where the columns that stay have no room side by side, every row is a block of lines, a column each.

    Attributes:
        rows: a cell per column; of several lines, if there are such in it.
        title, note: above and below, where there are any.
        spaced: an empty line between rows.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    spaced: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        shown = self.shown(room)
        if self.title:
            yield Text(printable(self.title), "bold")
        if self._least(shown) > room:
            yield from self._blocks(room)
        else:
            yield self._table(shown, room)
            gone = sorted((c for i, c in enumerate(self.columns) if i not in shown), key=lambda c: c.drop)
            if names := ", ".join(" ".join(c.name.split()) for c in gone if c.name):
                yield Text(f"no room for: {names}", "dim")
        if self.note:
            yield Text(printable(self.note), "dim")

    def shown(self, room: int) -> list[int]:
        """Positions of the columns that stay in so many columns of the screen."""
        shown = list(range(len(self.columns)))
        order = sorted((i for i in shown if self.columns[i].drop), key=lambda i: self.columns[i].drop)
        while order and self._least(shown) > room:
            shown.remove(order.pop(0))
        return shown

    def _cells(self, index: int) -> list[Text]:
        style = self.columns[index].style
        return [_text(row[index], style) for row in self.rows]

    def _natural(self, index: int) -> int:
        return max(_width(cell) for cell in (_text(self.columns[index].name), *self._cells(index)))

    def _needs(self, index: int) -> int:
        natural = self._natural(index)
        return min(natural, _LEAST) if self.columns[index].kind == "text" else natural

    def _least(self, shown: Sequence[int]) -> int:
        return sum(map(self._needs, shown)) + GAP * (len(shown) - 1)

    def _widths(self, shown: Sequence[int], room: int) -> dict[int, int]:
        """What is left over goes to the texts, the narrowest first."""
        widths = {i: self._needs(i) for i in shown}
        left = room - self._least(shown)
        texts = sorted((i for i in shown if self.columns[i].kind == "text"), key=self._natural)
        for rank, i in enumerate(texts):
            more = min(self._natural(i) - widths[i], left // (len(texts) - rank))
            widths[i] += more
            left -= more
        return widths

    def _table(self, shown: Sequence[int], room: int) -> Table:
        widths = self._widths(shown, room)
        named = any(self.columns[i].name for i in shown)
        table = Table(
            box=None, show_header=named, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0)
        )
        for i in shown:
            column = self.columns[i]
            table.add_column(
                column.name, width=widths[i], no_wrap=True, vertical="top",
                justify="right" if column.kind == "figure" else "left",
            )  # fmt: skip
        for number, row in enumerate(self.rows):
            cells = (wrapped(_text(row[i], self.columns[i].style), widths[i]) for i in shown)
            table.add_row(*cells)
            if self.spaced and number + 1 < len(self.rows):
                table.add_row(*("" for _ in shown))
        return table

    def _blocks(self, room: int) -> Iterator[RenderableType]:
        name = max(len(" ".join(column.name.split())) for column in self.columns)
        for number, row in enumerate(self.rows):
            if number:
                yield Text("")
            for column, cell in zip(self.columns, row, strict=True):
                text = _text(cell, column.style)
                if not text.plain:
                    continue
                for at, line in enumerate(wrapped(text, max(room - name - GAP, 1)).split("\n")):
                    head = " ".join(column.name.split()) if at == 0 else ""
                    yield Text.assemble((f"{head:{name + GAP}}", "bold"), line)


def facts(rows: Iterable[tuple[str, Cell]], title: str = "") -> Grid:
    """Names with what is known of them."""
    return Grid((Column(""), Column("", "text")), list(rows), title)


def wrapped(text: Text, width: int) -> Text:
    """In lines of so many columns at most, broken at spaces; a longer word after a comma, : / or _, or else
    where it must be.

    A SHA-256 is not broken but cut to its beginning, as ids may be named by.
    """
    for digest in reversed(list(_DIGEST.finditer(text.plain)) if width < _DIGEST_LENGTH else []):
        first, last = digest.span()
        text = Text.assemble(text[:first], f"{digest[0][:_DIGITS]}…", text[last:])
    lines = [part for line in text.split("\n", allow_blank=True) for part in _broken(line, width)]
    joined = Text("\n").join(lines)
    joined.plain = joined.plain.replace(NO_BREAK, " ")
    return joined


def _broken(line: Text, width: int) -> Iterator[Text]:
    start = end = 0  # of what goes on this line
    for word in re.finditer("[^ ]+", line.plain):
        first, last = word.span()
        if end and line[start:last].cell_len > width:
            yield line[start:end]
            start = first
        while line[start:last].cell_len > width:
            fits = (n for n in range(2, last - start + 1) if line[start : start + n].cell_len <= width)
            most = max(fits, default=1)
            # Better after a comma than within a number.
            most = max((m.end() for m in _JOINT.finditer(line.plain[start : start + most])), default=most)
            yield line[start : start + most]
            start += most
        end = last
    yield line[start:end]


def _text(cell: Cell, style: str = "") -> Text:
    text = cell.copy() if isinstance(cell, Text) else Text(printable(cell))
    if style and not text.style and not text.spans:
        text.style = style
    return text


def _width(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n", allow_blank=True)), default=0)
