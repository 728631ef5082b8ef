"""A week in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from device_sim.week.figures import (
    BAR,
    NAMES,
    DayFigures,
    contributions,
    day_figures,
    headline,
    nights_taken,
    refusals,
)
from device_sim.week.state import ARMS, Week
from personality_common.terminal.tables import Column, Grid, figures


def parts_table(days: Sequence[DayFigures]) -> Grid:
    """A row per part of the companion: facts on the first morning and on the last, style, perplexity."""
    first, last = days[0], days[-1]
    columns = (
        Column("answered by", "text"), *figures("facts, next day", f"facts, day {last.number + 1}"),
        Column("style", "figure"), Column("perplexity", "figure", drop=1),
    )  # fmt: skip
    rows = []
    for arm in ARMS:
        change = last.perplexity.get(arm)
        cells = [
            str(shares[arm]) if arm in shares else "–" for shares in (first.facts, last.facts, last.style)
        ]
        rows.append((NAMES[arm], *cells, "–" if change is None else f"{change:+.1%}"))
    return Grid(columns, rows)


def nights_table(week: Week) -> Grid:
    """A row per day with its night."""
    columns = (
        Column("day", "figure"), Column("edits", "figure", drop=3), Column("thumbs", drop=3),
        Column("styled by day", "figure", drop=2), Column("night", "text"),
        Column("trained", "figure", drop=2),
        Column("gain", "figure", drop=1), Column("lost", "figure", drop=1), Column("won", "figure", drop=1),
    )  # fmt: skip
    rows = []
    for day, found in zip(week.days, day_figures(week), strict=False):
        night = day.night
        assert night is not None
        gain = "–" if night.gain is None else f"{night.gain:+.3f}"
        rows.append(
            (str(day.number), str(found.edits), f"{found.thumbs_up} up, {found.thumbs_down} down",
             str(found.heard), night.outcome, str(night.trained), gain, str(night.lost), str(night.won))
        )  # fmt: skip
    return Grid(columns, rows)


def week_lines(week: Week) -> Iterator[str]:
    """What it came to, a line each."""
    days = day_figures(week)
    yield headline(week)
    if days and "both" in days[0].facts:
        share = days[0].facts["both"].value
        yield f"the bar is {BAR:.0%} with adapter and memory: {'met' if share >= BAR else 'missed'}"
    if days:
        yield from contributions(days)
    taken = nights_taken(week)
    yield f"nights accepted: {taken}"
    for check, count in refusals(week).items():
        yield f"  {check} refused {count}"
