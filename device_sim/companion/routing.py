"""Where turns go to be learned: the router, and its word as the log has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol

from device_sim.companion.events import Route
from personality_common.errors import MismatchError
from personality_common.terminal.progress import Reporter

if TYPE_CHECKING:
    from device_sim.companion.router.router import Router
    from personality_common.text.identity import Encoder


class Routed(Protocol):
    """Where a turn goes to be learned, and how likely each way is."""

    @property
    def label(self) -> Literal["adapter", "memory", "both", "neither"]: ...
    @property
    def scores(self) -> Mapping[str, float]: ...


def route_of(turn: str, found: Routed | None) -> Route | None:
    """The event that says so; None: the router does not know."""
    if found is None:
        return None
    return Route(turn, found.label, {label: round(p, 4) for label, p in found.scores.items()})


def routing(encoder: Callable[[], Encoder], reporter: Reporter) -> Callable[[str], Routed | None]:
    """Routes texts by their embedding; with an encoder that the router was not fitted to, to nowhere."""
    from device_sim.companion.router.router import Router

    @cache
    def router() -> Router | None:
        try:
            return Router.open(encoder().identity)
        except MismatchError as error:
            reporter.warn(f"where turns go to be learned is not said: {error}")
            return None

    def route(text: str) -> Routed | None:
        opened = router()
        return opened.route(text, encoder().encode([text])[0]) if opened else None

    return route
