"""The frame of every report: nothing outside of it is loaded, everything from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from personality_common.evidence.provenance import Provenance
from personality_common.page.html import Content, Html, join, tag

_STYLE: Final = Path(__file__).with_name("style.css")
_POLICY: Final = "Content-Security-Policy"


@dataclass(frozen=True)
class Application:
    """A page in UTF-8, and the headers that it must be sent with."""

    html: bytes
    headers: dict[str, str]


def page(title: str, *sections: Html, made: Provenance, notes: Content = None) -> str:
    """A complete document, in one file.

    Args:
        title: of the window; plain text.
        sections: a `heading`, then cards.
        made: what the page comes from, for its foot.
        notes: further paragraphs of the foot.
    """
    style = _STYLE.read_text()
    # No script, no image, no form, and no style but this one: not even an attribute.
    policy = f"{_nothing_but(style)}; form-action 'none'"
    body = tag("main", sections, tag("footer", notes, _made(made)))
    meta = f'<meta http-equiv="{_POLICY}" content="{policy}">\n'
    return _document(title, style, f"<body>\n{body.markup}\n</body>", meta)


def application(
    title: str, settings: Mapping[str, object], body: Path, style: str, script: str
) -> Application:
    """A page with a script that asks its own server.

    Args:
        title: of the window; plain text.
        settings: the script finds them as JSON in the body's `data-settings`.
        body: a file of ours, what the body holds before the script fills it.
        style: CSS beside the pages' own.
        script: JavaScript, run when all of the body is there.
    """
    style = f"{_STYLE.read_text()}\n{style}"
    policy = (
        f"{_nothing_but(style)}; script-src {_hash(script)}; connect-src 'self'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    given = html.escape(json.dumps(settings, ensure_ascii=False), quote=True)
    inside = f'<body data-settings="{given}">\n{body.read_text()}<script>{script}</script>\n</body>'
    return Application(_document(title, style, inside).encode(), {_POLICY: policy})


def _document(title: str, style: str, body: str, meta: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{meta}{tag('title', title).markup}\n<style>{style}</style>\n</head>\n{body}\n</html>\n"
    )


def _nothing_but(style: str) -> str:
    return f"default-src 'none'; style-src {_hash(style)}; base-uri 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def heading(title: str, subtitle: Content = None, *, passed: bool | None = None) -> Html:
    """The top of a page; in colour where there is a verdict."""
    state = None if passed is None else "passed" if passed else "failed"
    return tag("header", tag("h1", title), tag("p", subtitle, class_="sub"), class_=state)


def card(title: str, *content: Content) -> Html:
    """A section."""
    return tag("section", tag("h2", title), content, class_="card")


def note(*content: Content) -> Html:
    """What a reader must know of a table or a chart."""
    return tag("p", content, class_="note")


def columns(*content: Content) -> Html:
    """Side by side where there is room."""
    return tag("div", content, class_="columns")


def chip(text: str, kind: Literal["", "won", "lost"] = "") -> Html:
    """A token."""
    return tag("span", text, class_=f"chip {kind}".rstrip())


def example(text: str, *rows: tuple[str, Iterable[Html]], detail: str = "") -> Html:
    """A quoted text with rows of chips."""
    return tag(
        "article",
        tag("blockquote", text, dir="auto"),
        tag("p", detail, class_="detail") if detail else None,
        (tag("div", tag("b", name), chips, class_="chips") for name, chips in rows),
    )


def _made(made: Provenance) -> Html:
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return join(
        tag("p", f"{made.date.replace('T', ' ').replace('+00:00', ' UTC')}, on {made.machine}; {versions}."),
        tag("p", tag("code", made.command)),
        tag("p", "This page is one file and loads nothing."),
    )
