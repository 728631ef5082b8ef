"""Line charts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from personality_common.evidence.claims import number
from personality_common.page.html import Html, join, tag
from personality_common.page.plot import Plot, legend
from personality_common.page.scales import Scale, linear, logarithmic

_DASHES: Final = ("", "6 4")
"""Series differ by more than colour."""
_MAX_NAMES: Final = 40
_MAX_TICKS: Final = 10
_MAX_NAME: Final = 26
"""Characters that have room below the axis."""


@dataclass(frozen=True)
class Series:
    """A line: y at x = first, first + 1, …

    Attributes:
        values: NaN leaves a gap; infinity is drawn as infinity.
        band: low and high around it, of the same length, finite.
        tips: what a point says, in place of its value.
    """

    name: str
    values: Sequence[float]
    first: int = 0
    band: tuple[Sequence[float], Sequence[float]] | None = None
    tips: Sequence[str] | None = None


@dataclass(frozen=True)
class Limit:
    """A line with its name."""

    name: str
    value: float


def line_chart(
    title: str,
    series: Sequence[Series],
    limits: Sequence[Limit] = (),
    *,
    x: str,
    y: str,
    log: bool = False,
    names: Sequence[str] = (),
) -> Html:
    """Lines, with a legend below the title and values in tooltips.

    Args:
        series: one or two.
        x, y: what the axes show, with its unit.
        log: powers of ten on the vertical axis.
        names: of x = 0, 1, …, which are numbers otherwise, 0 the start; a chart with names is a wide one.
    """
    values = [v for s in series for v in s.values if not math.isnan(v)] + [limit.value for limit in limits]
    values += [v for s in series if s.band for side in s.band for v in side]
    first = min(s.first for s in series)
    last = max(s.first + len(s.values) - 1 for s in series)
    step = max(1, math.ceil((last - first) / _MAX_TICKS))
    across = Scale(first - 0.5, last + 0.5, step) if names else Scale(min(first, last - 1), last, step)
    named = 0 < len(names) <= _MAX_NAMES
    plot = Plot(
        width=760 if names else 520, height=366 if named else 260, below=150 if named else 42,
        across=across, up=logarithmic(values) if log else linear(values), x=x, y=y,
    )  # fmt: skip
    marks = [
        *(_line(one, number, plot) for number, one in enumerate(series)),
        *(_limit(limit, plot) for limit in limits),
        *(_slanted(name, plot, at) for at, name in enumerate(names) if named),
        *(_number(at, plot) for at in range(first, last + 1, step) if not names),
    ]
    caption = join(title, legend([one.name for one in series], _DASHES))
    return plot.figure(caption, marks, label=title, names=False)


def _limit(limit: Limit, plot: Plot) -> Html:
    at = plot.py(limit.value)
    name = tag("text", f"{limit.name} {limit.value:g}", x=plot.left + 6, y=at - 5, class_="limit")
    return join(plot.rule(at, "limit"), name)


def _number(at: int, plot: Plot) -> Html:
    return tag("text", at or "start", x=plot.px(at), y=plot.bottom + 17, text_anchor="middle")


def _slanted(name: str, plot: Plot, at: int) -> Html:
    name = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
    place = f"translate({plot.px(at) + 3:.1f},{plot.bottom + 14:.1f}) rotate(-65)"
    return tag("text", name, transform=place, text_anchor="end", class_="small")


def _line(one: Series, kind: int, plot: Plot) -> Html:
    points = [
        None if math.isnan(value) else (plot.px(one.first + i), plot.py(value))
        for i, value in enumerate(one.values)
    ]
    band = None
    if one.band:
        low, high = one.band
        edge = [(plot.px(one.first + i), plot.py(v)) for i, v in enumerate(high)]
        edge += [(plot.px(one.first + i), plot.py(v)) for i, v in reversed(list(enumerate(low)))]
        band = tag("polygon", points=_points(edge), class_=f"band s{kind}")
    lines = (
        tag("polyline", points=_points(run), class_=f"line s{kind}", stroke_dasharray=_DASHES[kind])
        for run in _runs(points)
    )
    dots = (_dot(point, kind, _tip(one, i, plot.x)) for i, point in enumerate(points) if point)
    return join(band, lines, dots)


def _dot(point: tuple[float, float], kind: int, tip: str) -> Html:
    """A circle for the first series, a diamond for the second."""
    (x, y), title = point, tag("title", tip)
    if kind == 0:
        return tag("circle", title, cx=x, cy=y, r=3.5, class_="dot s0")
    return tag("path", title, d=f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5-4.5z", class_="dot s1")


def _tip(one: Series, index: int, x: str) -> str:
    if one.tips is not None:
        return one.tips[index]
    at = one.first + index
    return f"{one.name}, {f'{x} {at}' if at else 'start'}: {number(one.values[index])}"


def _runs(points: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    """Stretches without a gap, of two points or more."""
    edges = [-1, *(i for i, point in enumerate(points) if point is None), len(points)]
    for start, stop in pairwise(edges):
        run = [point for point in points[start + 1 : stop] if point]
        if len(run) > 1:
            yield run


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in pairs)
