"""Line charts as inline SVG; colours come from the page's CSS variables, so that they follow its scheme."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 520
HEIGHT: Final = 260
_LEFT: Final = 46
_RIGHT: Final = WIDTH - 12
_TOP: Final = 14
_BOTTOM: Final = HEIGHT - 32
_DASHES: Final = ("", "6 4")
"""Series differ by more than colour."""
_Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """A line: y at x = first, first + 1, …; optionally a band (low, high) around it, of the same length."""

    name: str
    values: Sequence[float]
    first: int = 0
    band: tuple[Sequence[float], Sequence[float]] | None = None


@dataclass(frozen=True)
class Limit:
    """A horizontal line with its name."""

    name: str
    value: float


def line_chart(title: str, series: Sequence[Series], limits: Sequence[Limit] = ()) -> str:
    """An SVG of lines over nights, with a legend below the title and values in tooltips."""
    values = [v for s in series for v in s.values] + [limit.value for limit in limits]
    values += [v for s in series if s.band for side in s.band for v in side]
    low, high, step = _axis(min(values), max(values))
    last = max(s.first + len(s.values) - 1 for s in series)
    first = min(min(s.first for s in series), last - 1)

    def x(night: float) -> float:
        return _LEFT + (night - first) / (last - first) * (_RIGHT - _LEFT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_BOTTOM - _TOP)

    parts = []
    for i in range(round((high - low) / step) + 1):
        tick = low + i * step
        label = f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
        at = y(tick)
        parts.append(_rule("grid", at))
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    every = max(1, math.ceil((last - first) / 14))
    for night in range(first, last + 1, every):
        parts.append(
            f'<text class="tick" x="{x(night):.1f}" y="{HEIGHT - 12}" text-anchor="middle">'
            f"{night or 'start'}</text>"
        )
    for limit in limits:
        at = y(limit.value)
        parts.append(_rule("limit", at))
        parts.append(
            f'<text class="limit-name" x="{_LEFT + 6}" y="{at - 5:.1f}">{html.escape(limit.name)}</text>'
        )
    for number, one in enumerate(series):
        parts.append(_drawn(one, number, x, y))
    legend = "".join(
        f'<span class="key"><svg width="22" height="8" aria-hidden="true"><line class="line s{number}" x1="0"'
        f' x2="22" y1="4" y2="4" stroke-dasharray="{_DASHES[number % 2]}"/></svg>'
        f"{html.escape(one.name)}</span>"
        for number, one in enumerate(series)
    )
    return (
        f'<figure><figcaption>{html.escape(title)}<span class="legend">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title, quote=True)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _rule(kind: str, at: float) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'


def _drawn(one: Series, number: int, x: _Scale, y: _Scale) -> str:
    points = [(x(one.first + i), y(value)) for i, value in enumerate(one.values)]
    parts = []
    if one.band:
        low, high = one.band
        edge = [(x(one.first + i), y(v)) for i, v in enumerate(high)]
        edge += [(x(one.first + i), y(v)) for i, v in reversed(list(enumerate(low)))]
        parts.append(f'<polygon class="band s{number}" points="{_points(edge)}"/>')
    parts.append(
        f'<polyline class="line s{number}" points="{_points(points)}"'
        f' stroke-dasharray="{_DASHES[number % 2]}"/>'
    )
    for i, (cx, cy) in enumerate(points):
        night = one.first + i
        label = f"{one.name}, {f'night {night}' if night else 'start'}: {one.values[i]:.3f}"
        parts.append(
            f'<circle class="dot s{number}" cx="{cx:.1f}" cy="{cy:.1f}" r="3.5">'
            f"<title>{html.escape(label)}</title></circle>"
        )
    return "".join(parts)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in pairs)


def _axis(low: float, high: float) -> tuple[float, float, float]:
    """Ends and step of an axis with round numbers around the values."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step
