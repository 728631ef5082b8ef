"""The page at `/`: a chat in one file that loads nothing, whose texts are never markup."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.endpoint.exchange import dumps
from personality_common.endpoint.model import Card

_HERE: Final = Path(__file__).parent
_STYLE: Final = Path(__file__).parents[1] / "page" / "style.css"


@dataclass(frozen=True)
class Addition:
    """What a family adds to the page.

    Attributes:
        script: listens on `document` for `chat-turn`, whose detail has the turn's `element`, `role`, `text`,
            `done`; it may put elements into `element`, or into `#beside`.
        style: CSS.
    """

    script: str = ""
    style: str = ""


class ChatPage:
    """The page, and the headers that it is sent with.

    Attributes:
        html: in UTF-8.
        headers: the policy; it allows this page's own script and style, and questions to this endpoint.
    """

    def __init__(self, card: Card, *, with_key: bool = False, additions: Sequence[Addition] = ()) -> None:
        """Make the page of a model.

        Args:
            with_key: the endpoint needs a key, for which the page then asks.
        """
        chat_style, script = ((_HERE / name).read_text() for name in ("chat.css", "chat.js"))
        style = "\n".join([_STYLE.read_text(), chat_style, *(a.style for a in additions)])
        script = "\n".join([script, *(a.script for a in additions)])
        title = html.escape(card.name)
        settings = html.escape(dumps({"models": card.names, "key": with_key}), quote=True)
        document = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{style}</style>\n</head>\n"
            f'<body data-settings="{settings}">\n<main id="chat">\n'
            f'<header><h1>{title}</h1><p class="sub" id="state" role="status"></p></header>\n'
            '<div id="beside"></div>\n<div id="turns" role="log" aria-live="polite"></div>\n'
            '<form id="ask">\n<div class="row"><label>Model <select id="model"></select></label>'
            '<label id="key-label" hidden>Key <input id="key" type="password" autocomplete="off"></label>'
            '<button type="button" id="new">New chat</button></div>\n'
            '<textarea id="text" rows="3" aria-label="Message" placeholder="Write; Enter sends" '
            'autofocus></textarea>\n<div class="row"><button id="send">Send</button>'
            '<button type="button" id="stop" hidden>Stop</button></div>\n</form>\n</main>\n'
            f"<script>{script}</script>\n</body>\n</html>\n"
        )
        self.html = document.encode()
        policy = (
            f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.headers = {"Content-Security-Policy": policy}


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
