"""Histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from personality_common.page.html import Html, join, tag
from personality_common.page.lines import Limit
from personality_common.page.plot import Plot
from personality_common.page.scales import Scale, linear

_ZERO: Final = 0.06
"""Share of a logarithmic axis that the bar of 0 takes."""


def histogram(
    title: str,
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    x: str,
    unit: str,
    zero: int | None = None,
    limit: Limit | None = None,
) -> Html:
    """How many have which value; what is below zero in the other colour.

    Args:
        edges: (N + 1) of the bars, ascending.
        counts: (N,)
        x: what the values are, with their unit.
        unit: what is counted.
        zero: how many are exactly 0: the axis is then one of powers of ten, 0 has a place before them, and
            the first and the last bar hold what lies beyond, too.
        limit: drawn where it is within the axis, named where it is not.
    """
    log = zero is not None
    if log:
        low, high = math.log10(edges[0]), math.log10(edges[-1])
        across = Scale(low, high, 2, log=True, below=True)
    else:
        across = linear(edges, exact=True)
    most = max(*counts, zero or 0, 1)
    up = linear([0, most], least_step=1)
    plot = Plot(520, 230, across, up, x, unit)
    total = max(sum(counts) + (zero or 0), 1)

    def bar(left: float, right: float, count: int, what: str, kind: str) -> Html | None:
        if not count:
            return None
        tip = tag("title", f"{what}: {count:,} {unit}, {count / total:.1%}")
        top = plot.py(count)
        return tag(
            "rect", tip, x=left, width=max(right - left - 1, 1.0), y=top, height=plot.bottom - top,
            class_=kind,
        )  # fmt: skip

    bars = [
        bar(
            plot.px(left), plot.px(right), count, _span(i, len(counts), left, right, log),
            "column under" if right <= 0 else "column",
        )
        for i, (left, right, count) in enumerate(zip(edges[:-1], edges[1:], counts, strict=True))
    ]  # fmt: skip
    if zero:
        width = _ZERO * (plot.right - plot.left)
        bars.append(bar(plot.px(0) - width / 2, plot.px(0) + width / 2, zero, "exactly 0", "column"))
    mark = None
    if not log and edges[0] < 0 < edges[-1]:
        mark = _upright(plot, 0.0, "")
    if limit is not None:
        mark = join(mark, _limit(plot, limit, edges))
    return plot.figure(title, plot.rule(plot.bottom, "floor"), bars, mark, label=title)


def _span(index: int, bars: int, left: float, right: float, open_ended: bool) -> str:
    if open_ended and index == 0:
        return f"up to {right:.2g}"
    if open_ended and index == bars - 1:
        return f"from {left:.2g} on"
    return f"{left:.3g} to {right:.3g}"


def _limit(plot: Plot, limit: Limit, edges: Sequence[float]) -> Html:
    name = f"{limit.name} {limit.value:g}"
    if limit.value < edges[0]:
        return tag("text", f"← {name}", x=plot.left + 4, y=28, class_="limit")
    if limit.value > edges[-1]:
        return tag("text", f"{name} →", x=plot.right, y=28, text_anchor="end", class_="limit")
    return _upright(plot, limit.value, name)


def _upright(plot: Plot, value: float, name: str) -> Html:
    at = plot.px(value)
    line = tag("line", x1=at, x2=at, y1=22, y2=plot.bottom, class_="limit")
    return join(line, tag("text", name, x=at + 5, y=28, class_="limit") if name else None)
