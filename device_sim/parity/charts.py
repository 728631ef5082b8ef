"""Charts of the parity page: plain SVG, whose colors come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from device_sim.parity.report import DepthPoint
from personality_common.evidence.distances import HISTOGRAM_EDGES

WIDTH: Final = 760
LEFT: Final = 58
RIGHT: Final = 14
MAX_LABELS: Final = 40
_DIGITS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def histogram(counts: Sequence[int], equal: int, limit: float | None) -> str:
    """How many elements differ by how much; |difference| from left to right, by half powers of ten.

    Args:
        counts: after `HISTOGRAM_EDGES`.
        equal: elements without any difference.
        limit: the tolerance, drawn as a line.
    """
    height, top, bottom = 190, 16, 158
    low, high = HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1]
    plot = WIDTH - LEFT - RIGHT - 60
    start = LEFT + 60
    total = sum(counts) + equal
    most = max([*counts, equal, 1])
    bars = []

    def bar(x: float, width: float, count: int, what: str) -> None:
        size = (bottom - top) * count / most
        share = 100 * count / max(total, 1)
        bars.append(
            f'<rect class="bar" x="{x:.1f}" y="{bottom - size:.1f}" width="{width:.1f}" height="{size:.1f}" '
            f'rx="1.5"><title>{what}: {count:,} values, {share:.1f}%</title></rect>'
        )

    bar(LEFT + 4, 36, equal, "no difference")
    step = plot / len(counts)
    for i, count in enumerate(counts):
        if count:
            what = f"1e{HISTOGRAM_EDGES[i]:g} to 1e{HISTOGRAM_EDGES[i + 1]:g}"
            bar(start + i * step + 1, step - 2, count, what)
    ticks = [
        f'<text x="{start + (power - low) / (high - low) * plot:.1f}" y="{bottom + 17}" '
        f'text-anchor="middle">{_power(power)}</text>'
        for power in range(int(low), int(high) + 1, 2)
    ]
    line = ""
    if limit is not None and limit > 0:
        x = start + (min(max(math.log10(limit), low), high) - low) / (high - low) * plot
        line = (
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{bottom}"/>'
            f'<text class="limit" x="{x + 5:.1f}" y="{top + 2}">limit {limit:g}</text>'
        )
    return _svg(
        height,
        "Histogram of differences",
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>',
        f'<text x="{LEFT - 8}" y="{top + 8}" text-anchor="end">{most:,}</text>',
        f'<text x="{LEFT + 22}" y="{bottom + 17}" text-anchor="middle">equal</text>',
        *bars,
        *ticks,
        line,
    )


def depth_plot(points: Sequence[DepthPoint]) -> str:
    """Relative error by op, in order: rounding (against float64), and against PyTorch's layer if any."""
    labelled = len(points) <= MAX_LABELS
    top, bottom = 14, 214
    height = bottom + (128 if labelled else 30)
    values = [v for p in points for v in (p.rounding, p.torch) if v is not None and 0 < v < math.inf]
    low = math.floor(math.log10(min(values, default=1e-9))) - 1
    high = max(math.ceil(math.log10(max(values, default=1e-6))), low + 2)
    plot = WIDTH - LEFT - RIGHT

    def x(position: int) -> float:
        return LEFT + (position + 0.5) * plot / max(len(points), 1)

    def y(value: float) -> float:
        power = low if value == 0 else high if math.isinf(value) else math.log10(value)
        return bottom - (min(max(power, low), high) - low) / (high - low) * (bottom - top)

    grid = []
    for power in range(low, high + 1):
        level = bottom - (power - low) / (high - low) * (bottom - top)
        name = "0" if power == low else _power(power)
        grid.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
        )
        grid.append(f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{name}</text>')
    path = " ".join(f"{x(p.position):.1f},{y(p.rounding):.1f}" for p in points)
    marks = [f'<polyline class="rounding" points="{path}"/>']
    for p in points:
        title = f"{p.position}: {p.op} %{p.name} {list(p.shape)}; against float64 {p.rounding:.1e}" + (
            f"; against PyTorch's {p.layer} {p.torch:.1e}" if p.torch is not None else ""
        )
        tip = f"<title>{escape(title)}</title>"
        marks.append(
            f'<circle class="rounding" cx="{x(p.position):.1f}" cy="{y(p.rounding):.1f}" r="3">{tip}</circle>'
        )
        if p.torch is not None:
            cx, cy = x(p.position), y(p.torch)
            marks.append(f'<path class="torch" d="M{cx:.1f} {cy - 5:.1f}l5 5l-5 5l-5-5z">{tip}</path>')
        if labelled:
            at = f"{x(p.position) + 3:.1f},{bottom + 14}"
            label = escape(p.layer if p.layer and p.torch is not None else p.op)
            marks.append(
                f'<text transform="translate({at}) rotate(-52)" text-anchor="end" class="op">{label}</text>'
            )
    return _svg(height, "Relative error by op", *grid, *marks)


def headroom(value: float, limit: float) -> str:
    """A bar of how much of a limit is used up, on a scale of powers of ten; empty six powers below it."""
    used = 0.0 if value <= 0 or limit <= 0 else min(1.0, max(0.0, 1 + math.log10(value / limit) / 6))
    state = "over" if value > limit else "within"
    return (
        f'<span class="meter {state}" title="{value:.2g} of {limit:g}">'
        f'<span style="width:{100 * used:.0f}%"></span></span>'
    )


def _power(power: int) -> str:
    return "10" + str(power).translate(_DIGITS)


def _svg(height: int, label: str, *content: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">' + "".join(content) + "</svg>"
    )
