"""HTML and SVG as elements: text is escaped because nothing else can be done with it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from personality_common.printable import printable

_TAGS: Final = frozenset(
    ("article", "b", "blockquote", "circle", "code", "details", "div", "figcaption", "figure", "footer",
     "h1", "h2", "h3", "header", "li", "line", "main", "p", "path", "polygon", "polyline", "rect", "section",
     "span", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul")
)  # fmt: skip
"""None whose content is not plain text (script, style), and none that loads anything."""
_ATTRIBUTES: Final = frozenset(
    ("aria-hidden", "aria-label", "class", "cx", "cy", "d", "data-name", "dir", "height", "points", "r",
     "role", "rx", "stroke-dasharray", "text-anchor", "title", "transform", "viewBox", "width", "x", "x1",
     "x2", "y", "y1", "y2")
)  # fmt: skip
"""None that runs or loads anything, and no style: colours and sizes are the style sheet's."""


@dataclass(frozen=True)
class Html:
    """Finished markup, of which `tag` alone makes more; a plain string never becomes one unescaped."""

    markup: str


Content: TypeAlias = "Html | str | int | Iterable[Content] | None"


def tag(name: str, *content: Content, **attributes: str | float | None) -> Html:
    """An element.

    Args:
        content: strings and numbers, which are escaped; elements; iterables of these. None is nothing.
        attributes: `class_` is class, `text_anchor` is text-anchor; None leaves one out. Numbers are
            coordinates, and get a digit after the point.

    Raises:
        ValueError: an element or an attribute that a page has no use for, or a coordinate that is not finite.
    """
    if name not in _TAGS:
        raise ValueError(f"an element must be one of {', '.join(sorted(_TAGS))}, got {name!r}")
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if key not in _ATTRIBUTES:
            raise ValueError(f"an attribute must be one of {', '.join(sorted(_ATTRIBUTES))}, got {key!r}")
        if value is not None:
            words.append(f'{key}="{_attribute(value)}"')
    return Html(f"<{' '.join(words)}>{join(*content).markup}</{name}>")


def join(*content: Content) -> Html:
    """Content without an element around it."""
    return Html("".join(map(_markup, content)))


def _markup(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Html):
        return content.markup
    if isinstance(content, str | int):
        return _escape(str(content))
    return "".join(map(_markup, content))


def _attribute(value: str | float) -> str:
    if isinstance(value, str):
        return _escape(value)
    if not math.isfinite(value):
        raise ValueError(f"a coordinate must be finite, got {value}")
    return f"{value:.1f}".removesuffix(".0")


def _escape(text: str) -> str:
    return html.escape(printable(text), quote=True)
