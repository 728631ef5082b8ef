"""What a user says about one turn: `#no-train`, `#no-memory`, `#off-record`."""

from __future__ import annotations

import re
from typing import Final

TAGS: Final = frozenset({"no-train", "no-memory", "off-record"})
# Phones put other hyphens in the place of "-". Several tags may follow one another without a space.
_NAME: Final = r"#(?:no[-‐‑–](?:train|memory)|off[-‐‑–]record)"
_TAG: Final = re.compile(rf"(?<![\w/#&.?=:-])(?:{_NAME})+(?![\w/=-])", re.I)
# Code that ends, and addresses. An open backtick hides nothing: a tag that is seen keeps a secret.
_QUOTED: Final = re.compile(r"```.*?```|`[^`\n]+`|\b[a-z][a-z0-9+.-]{1,15}://\S+", re.S | re.I)


def take_tags(text: str) -> tuple[str, frozenset[str]]:
    """Take the tags out of a turn.

    Tags count in any position and any case; not as part of a longer word (`#off-recording`), nor in code
    between backticks, nor in an address.

    Returns:
        the text without tags, and the space that one took with it; and which there were, in lower case.
    """
    found: set[str] = set()
    while True:
        kept, tags = _take_once(text)
        if not tags:
            return text, frozenset(found)
        text = kept
        found |= tags


def _take_once(text: str) -> tuple[str, set[str]]:
    if "#" not in text:
        return text, set()
    quoted = [found.span() for found in _QUOTED.finditer(text)] if _TAG.search(text) else []
    pieces: list[str] = []
    tags: set[str] = set()
    at = 0
    for found in _TAG.finditer(text):
        start, end = found.span()
        while quoted and quoted[0][1] <= start:
            quoted.pop(0)
        if quoted and quoted[0][0] < end:
            continue
        tags |= {re.sub(r"[‐‑–]", "-", name) for name in found[0].lower().split("#")[1:]}
        # Of the spaces on both sides one stays, or none beside a line's end.
        before = text[at:start]
        bare = before.rstrip(" \t")
        spaced = len(bare) < len(before)
        after_space = end < len(text) and text[end] in " \t"
        at_line_start = not (pieces or bare) or bare.endswith("\n")
        if spaced and (after_space or end == len(text) or text[end] in "\r\n"):
            before = bare
        pieces.append(before)
        at = end
        if after_space and at_line_start:
            at += 1
    return "".join(pieces) + text[at:], tags
