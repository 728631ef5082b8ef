"""The router's word on a turn, as the log has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from device_sim.companion.events import Route


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
