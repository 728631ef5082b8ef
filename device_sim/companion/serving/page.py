"""The companion's page, and what only it asks: what is remembered, to forget it, to judge an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from device_sim.companion.companion import Companion
from device_sim.companion.events import Feedback
from device_sim.companion.feedback import find_answer
from device_sim.companion.serving.model import CompanionModel, Noted, told_to_clients
from personality_common.endpoint.exchange import Said, server_sent
from personality_common.endpoint.fields import Fields
from personality_common.endpoint.model import RequestError
from personality_common.endpoint.openai import Chat
from personality_common.endpoint.page import Addition, chat_page
from personality_common.endpoint.site import Site

CHAT: Final = "/companion/chat"
MOST_SHOWN: Final = 500
MOST_FORGOTTEN: Final = 1_000
_HERE: Final = Path(__file__).parent
_THUMBS: Final = {"up": 1.0, "down": -1.0}


class PageChat(Chat):
    """OpenAI's chat, with one event more before the end of a stream: what there is to say of the answer."""

    def end(self, said: Said) -> bytes:
        end = said.end
        noted = (
            {"turns": end.turns, "mood": end.mood, "recalled": end.recalled} if isinstance(end, Noted) else {}
        )
        return server_sent([{"choices": [], "noted": noted}]) + super().end(said)


def companion_site(model: CompanionModel, *, with_key: bool) -> Site:
    """The page, and what it asks."""
    script, style = ((_HERE / name).read_text() for name in ("page.js", "page.css"))
    page = chat_page(model.card, with_key=with_key, additions=[Addition(script, style)], path=CHAT)
    actions: Mapping[str, Callable[[Fields], Any]] = {
        "/companion/memories": lambda fields: memories(model.companion),
        "/companion/forget": lambda fields: forget(model, fields),
        "/companion/judge": lambda fields: judge(model.companion, fields),
    }
    return Site(page, {CHAT: PageChat}, actions)


def memories(companion: Companion) -> dict[str, Any]:
    """All that is remembered of the user, the latest first; null: this companion has no memory."""
    if companion.parts.memory is None:
        return {"memories": None, "more": 0}
    with told_to_clients():
        known = companion.parts.memory().audit(companion.user)
    shown = [
        {
            key: value
            for key, value in asdict(chunk).items()
            if key in ("text", "role", "time", "turns", "why")
        }
        for chunk in known[:MOST_SHOWN]
    ]
    return {"memories": shown, "more": len(known) - len(shown)}


def forget(model: CompanionModel, fields: Fields) -> dict[str, Any]:
    """Forget `turns`, with the answers to them: `turns` that are gone."""
    turns = fields.items("turns", MOST_FORGOTTEN)
    if not turns or not all(isinstance(turn, str) for turn in turns):
        raise fields.wrong("turns", "a list of ids")
    with told_to_clients():
        return {"turns": model.forget(turns)}


def judge(companion: Companion, fields: Fields) -> dict[str, Any]:
    """Thumbs, `up` or `down`, for the answer `turn`."""
    turn, thumbs = fields.text("turn"), fields.text("thumbs")
    if thumbs not in _THUMBS:
        raise RequestError("thumbs must be up or down", parameter="thumbs")
    with told_to_clients():
        found = find_answer(companion.log, turn)
        if found is None or found.id != turn:
            raise RequestError("turn must be the id of an answer that was kept", 404, "no_answer", "turn")
        companion.log.append(Feedback(found.id, _THUMBS[thumbs], "thumbs"), found.user)
    return {"turn": turn}
