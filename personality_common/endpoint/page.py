"""The page at `/`: a chat in one file that loads nothing, whose texts are never markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.endpoint.model import Card
from personality_common.page.page import Application, application

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Addition:
    """What a family adds to the page.

    Attributes:
        script: listens on `document` for `chat-turn`, whose detail has the turn's `element`, `role`, `text`,
            `done`, and of an answer what the stream's `noted` said; it may put elements into `element`, or
            into `#beside`, and take turns back with `chat-forget`, whose detail has their `elements`.
        style: CSS.
    """

    script: str = ""
    style: str = ""


def chat_page(
    card: Card,
    *,
    with_key: bool = False,
    additions: Sequence[Addition] = (),
    path: str = "/v1/chat/completions",
) -> Application:
    """The page of a model.

    Args:
        with_key: the endpoint needs a key, for which the page then asks.
        path: where it asks, in OpenAI's words.
    """
    style, script = ((_HERE / name).read_text() for name in ("chat.css", "chat.js"))
    return application(
        card.name,
        {"name": card.name, "models": card.names, "key": with_key, "path": path},
        _HERE / "chat.html",
        "\n".join([style, *(a.style for a in additions)]),
        "\n".join([script, *(a.script for a in additions)]),
    )
