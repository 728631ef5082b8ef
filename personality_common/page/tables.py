"""Tables of a page; none is wider than the page, whatever its width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from personality_common.evidence.claims import Check, Status, number
from personality_common.page.html import Content, Html, tag

_MARKS: Final[dict[Status, tuple[str, str]]] = {
    "passed": ("✓", "ok"),
    "failed": ("✗", "bad"),
    "not judged": ("–", "mute"),
}
_DECADES: Final = 6
"""Of a meter, below the limit."""


@dataclass(frozen=True)
class Column:
    """A column with its heading.

    Attributes:
        kind: how its cells are set: words on one line, figures to the right, or long text that wraps.
    """

    name: str
    kind: Literal["word", "figure", "long"] = "figure"


Row: TypeAlias = tuple[Literal["", "strong", "failed"], Sequence[Content]]
"""How it stands out, and its cells."""


def table(columns: Sequence[Column], rows: Iterable[Row]) -> Html:
    """A table with a heading for each column, scrolled in a card that is narrower; on a phone a row is a
    block, a line for each column."""
    head = tag("thead", tag("tr", (tag("th", c.name, class_=c.kind) for c in columns)))
    body = (
        tag(
            "tr",
            (
                tag("td", cell, class_=c.kind, data_name=c.name if cell not in (None, "") else None)
                for c, cell in zip(columns, cells, strict=True)
            ),
            class_=kind,
        )
        for kind, cells in rows
    )
    return tag("div", tag("table", head, tag("tbody", body), class_="rows"), class_="scroll")


def facts(rows: Iterable[tuple[str, Content]]) -> Html:
    """Names with what is known of them."""
    body = (tag("tr", tag("th", name), tag("td", value)) for name, value in rows)
    return tag("table", tag("tbody", body), class_="facts")


def verdict(checks: Sequence[Check]) -> Html:
    """A row per check: its state, what it is about, figure, limit, and reason; a block each on a phone."""
    return tag("table", tag("tbody", map(_check, checks)), class_="checks")


def mark(status: Status) -> Html:
    """A sign in its colour."""
    sign, kind = _MARKS[status]
    return tag("span", sign, class_=f"mark {kind}", title=status)


def _check(check: Check) -> Html:
    about = tag("span", check.about, class_="about") if check.about else None
    return tag(
        "tr",
        tag("td", mark(check.status)),
        tag("td", about, check.name, class_="name"),
        tag("td", check.figure, class_="figure"),
        tag("td", check.must, class_="limit"),
        tag("td", check.detail, class_="detail"),
        class_="failed" if check.failed else None,
    )


def meter(value: float, limit: float, holds: bool) -> Html:
    """How much of a limit is used up, in powers of ten: full at the limit, empty at a millionth of it.

    Args:
        holds: what is judged, which may be another figure than this: nothing that holds is red.
    """
    if not value > 0 or not limit > 0:
        used = 0.0 if value == 0 else 1.0
    else:
        used = min(1.0, max(0.0, 1 + math.log10(value / limit) / _DECADES))
    over = not value <= limit and not holds
    return tag(
        "svg",
        tag("title", f"{number(value)} of {limit:g}"),
        tag("rect", width=70, height=8, rx=4, class_="rail"),
        tag("rect", width=70 * used, height=8, rx=4, class_="over" if over else "used"),
        viewBox="0 0 70 8", class_="meter", role="img",
    )  # fmt: skip


def bar(share: float, kind: Literal["was", "now"]) -> Html:
    """A share of 1 as a length."""
    return tag(
        "svg",
        tag("rect", width=f"{100 * share:.1f}%", height=6, rx=3, class_=kind),
        class_="bar", height=6, aria_hidden="true",
    )  # fmt: skip
