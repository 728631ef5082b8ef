"""What line charts and histograms have in common: frame, axes, legend. SVG, coloured by the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from personality_common.page.html import Content, Html, tag
from personality_common.page.scales import Scale

_CHARACTER: Final = 9.0
"""Width of one in a tick's name, in the larger letters of a phone."""
_TOP: Final = 30.0
_RIGHT: Final = 14.0


@dataclass(frozen=True)
class Plot:
    """The area of a chart within its SVG, in units of the view box.

    Attributes:
        width, height: of all of it.
        below: room for the names of the horizontal axis.
        x, y: what the axes show, with its unit.
    """

    width: float
    height: float
    across: Scale
    up: Scale
    x: str
    y: str
    below: float = 42.0

    @property
    def left(self) -> float:
        return 12 + _CHARACTER * max(2, *(len(name) for _, name in self.up.ticks))

    @property
    def right(self) -> float:
        return self.width - _RIGHT

    @property
    def bottom(self) -> float:
        return self.height - self.below

    def px(self, value: float) -> float:
        return self.left + self.across.at(value) * (self.right - self.left)

    def py(self, value: float) -> float:
        return self.bottom - self.up.at(value) * (self.bottom - _TOP)

    def figure(self, title: Content, *marks: Content, label: str, names: bool = True) -> Html:
        """The chart.

        Args:
            title: above it.
            marks: what is drawn.
            label: for those who do not see it.
            names: of the horizontal axis' ticks; False where the marks bring their own.
        """
        svg = tag(
            "svg", self._rules(), self._names() if names else None, marks,
            tag("text", self.y, x=0, y=14, class_="axis"),
            tag("text", self.x, x=self.right, y=self.height - 4, text_anchor="end", class_="axis"),
            viewBox=f"0 0 {self.width:g} {self.height:g}", role="img", aria_label=label,
        )  # fmt: skip
        return tag("figure", tag("figcaption", title), tag("div", svg, class_="scroll"), class_=self._kind)

    @property
    def _kind(self) -> str | None:
        return "wide" if self.width > 600 else None

    def _rules(self) -> list[Html]:
        parts = []
        for value, name in self.up.ticks:
            at = self.py(value)
            parts.append(self.rule(at, "grid"))
            parts.append(tag("text", name, x=self.left - 8, y=at + 4, text_anchor="end"))
        return parts

    def _names(self) -> list[Html]:
        return [
            tag("text", name, x=self.px(value), y=self.bottom + 17, text_anchor="middle")
            for value, name in self.across.ticks
        ]

    def rule(self, at: float, kind: str) -> Html:
        """A horizontal line."""
        return tag("line", x1=self.left, x2=self.right, y1=at, y2=at, class_=kind)


def legend(names: Sequence[str], dashes: Sequence[str]) -> Html:
    """A line's look beside its name."""
    return tag(
        "span",
        (
            tag(
                "span",
                tag(
                    "svg",
                    tag("line", x1=0, x2=22, y1=4, y2=4, class_=f"line s{i}", stroke_dasharray=dash),
                    width=22, height=8, aria_hidden="true",
                ),
                name,
                class_="key",
            )
            for i, (name, dash) in enumerate(zip(names, dashes, strict=False))
        ),
        class_="legend",
    )  # fmt: skip
