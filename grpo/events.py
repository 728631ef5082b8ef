"""What a user did with a candidate, as rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from personality_common.errors import ToolkitError

EventRewards: TypeAlias = Mapping[str, float | None]
"""Event -> reward; None: it says nothing."""

RATED: Final = "rated"
"""The event that has a value, from -1 to 1, which its reward is multiplied by."""
EVENT_REWARDS: Final[EventRewards] = MappingProxyType(
    {"shown": None, "copied": 1.0, "edited": -0.3, "regenerated": -1.0, RATED: 1.0}
)
"""What events are worth unless said otherwise."""


def parse_rewards(spec: str) -> EventRewards:
    """`EVENT_REWARDS` with some of them changed: "copied=2,edited=none".

    Raises:
        ToolkitError: not event=number,…; an unknown event, or one twice.
    """
    changed: dict[str, float | None] = {}
    for part in spec.split(","):
        event, equals, value = part.strip().partition("=")
        if event not in EVENT_REWARDS or not equals:
            raise ToolkitError(
                f"must be event=reward,… with events among {', '.join(EVENT_REWARDS)}, got {part.strip()!r}"
            )
        if event in changed:
            raise ToolkitError(f"must name an event once, got {event} twice")
        try:
            changed[event] = None if value.strip().lower() == "none" else float(value)
        except ValueError:
            changed[event] = math.nan
        if not math.isfinite(changed[event] or 0.0):
            raise ToolkitError(f"{event} must be a finite number, or none, got {value.strip()!r}")
    return MappingProxyType({**EVENT_REWARDS, **changed})


def reward_of(events: Mapping[str, float], rewards: EventRewards) -> float | None:
    """The sum of what happened to a candidate.

    Events that contradict each other cancel: rated up and regenerated is 0 by default, which is heard, and
    neither good nor bad.

    Args:
        events: event -> its value, 1 for one that has none. What happened twice counts once.

    Returns:
        None if nothing that happened says anything: missing is not 0.
    """
    said = [value * worth for event, value in events.items() if (worth := rewards[event]) is not None]
    return sum(said) if said else None
