"""What a week came to: what memory, adapter and head each contributed, day by day."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from device_sim.week.state import ARMS, SCHEMA, Arm, Day, Morning, Week
from device_sim.week.user import User, knows, shows
from personality_common.evidence.claims import finite

BAR: Final = 0.9
"""Of the facts, asked the next day, with adapter and memory."""
NAMES: Final[Mapping[Arm, str]] = {
    "neither": "neither: the model as it shipped",
    "memory": "the memory alone",
    "adapter": "the adapter alone",
    "both": "adapter and memory",
    "served": "what the user had",
}


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of if self.of else math.nan

    def __str__(self) -> str:
        return f"{self.right} of {self.of}" if self.of else "–"


@dataclass(frozen=True)
class DayFigures:
    """A day and the morning after it.

    Attributes:
        facts: arm -> questions whose answer has the value.
        old: arm -> of the questions about what changed, those answered with what was true before.
        style: arm -> messages never said by day whose answer has the style that is liked by now.
        earlier: the same for the style that was liked before the drift; {} before it.
        perplexity: arm -> change against the model as it shipped, a share.
        heard: of the day's answers to talk, those that had the style when they were given.
    """

    number: int
    facts: Mapping[str, Share]
    old: Mapping[str, Share]
    style: Mapping[str, Share]
    earlier: Mapping[str, Share]
    perplexity: Mapping[str, float]
    heard: Share
    edits: int
    thumbs_up: int
    thumbs_down: int


def day_figures(week: Week) -> list[DayFigures]:
    """Of the days whose morning has come."""
    user = User(week.settings.seed, week.settings.days, week.settings.turns)
    return [_figures(day, day.morning, user) for day in week.days if day.morning is not None]


def _figures(day: Day, morning: Morning, user: User) -> DayFigures:
    talks = [said for said in day.exchanges if said.kind == "talks"]
    old = {f.what: f.value for f in user.facts if f.later and user.value(f, day.number) != f.value}
    signs = user.sign_off(day.number), user.sign_off(1)
    asked = [(q, q.value) for q in morning.asked]
    changed = [(q, old[q.what]) for q in morning.asked if q.what in old]
    return DayFigures(
        day.number,
        {arm: _known(asked, arm) for arm in ARMS if arm in morning.asked[0].answers},
        {arm: _known(changed, arm) for arm in ARMS if changed and arm in morning.asked[0].answers},
        _shown(morning, signs[0]),
        _shown(morning, signs[1]) if signs[0] != signs[1] else {},
        {arm: math.exp(nats - morning.nats["neither"]) - 1 for arm, nats in morning.nats.items()},
        Share(sum(said.right is True for said in talks), len(talks)),
        sum(said.edit is not None for said in day.exchanges),
        sum(said.thumbs == 1 for said in day.exchanges),
        sum(said.thumbs == -1 for said in day.exchanges),
    )


def _known(asked: Sequence[tuple[Any, str]], arm: Arm) -> Share:
    return Share(sum(knows(q.answers[arm], value) for q, value in asked), len(asked))


def _shown(morning: Morning, sign_off: str) -> dict[str, Share]:
    return {
        arm: Share(sum(shows(one.answers[arm], sign_off) for one in morning.styled), len(morning.styled))
        for arm in ARMS
        if morning.styled and arm in morning.styled[0].answers
    }


def nights_taken(week: Week) -> Share:
    """Nights that were accepted, of those that there were."""
    nights = [day.night for day in week.days if day.night is not None]
    return Share(sum(night.outcome == "accepted" for night in nights), len(nights))


def refusals(week: Week) -> dict[str, int]:
    """Id of a check -> nights that it refused, the most frequent first."""
    found: dict[str, int] = {}
    for day in week.days:
        for check in day.night.failed if day.night else ():
            found[check] = found.get(check, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def summary(week: Week) -> dict[str, Any]:
    """Figures by day, for the JSON."""
    days = day_figures(week)
    return {
        "days": [asdict(day) for day in days],
        "nights": asdict(nights_taken(week)),
        "refusals": refusals(week),
        "cpu_s": sum(day.cpu_s for day in week.days),
        "head": None,
    }


def document(week: Week) -> dict[str, Any]:
    """The week with its figures, after `week.schema.json`."""
    return {"schema": SCHEMA, **finite(asdict(week)), "summary": finite(summary(week))}


def headline(week: Week) -> str:
    """The most important thing in a sentence."""
    days = day_figures(week)
    if not days:
        return "A week that has only begun"
    first = days[0].facts
    if "both" not in first:
        return f"Asked the next day, {first['memory']} answered by the memory; there was no adapter"
    return (
        f"Asked the next day, {first['both']} answered with adapter and memory,"
        f" {first['memory'].right} by the memory alone, {first['adapter'].right} by the adapter alone"
    )


def contributions(days: Sequence[DayFigures]) -> list[str]:
    """What each part gave by the last morning, a sentence each."""
    last = days[-1]
    facts, style = last.facts, last.style
    lines = []
    if "both" in facts:
        lines = [
            f"to the memory the adapter adds {_points(facts['both'], facts['memory'])} of the facts,"
            f" and {_points(style['both'], style['memory'])} of the style",
            f"to the adapter the memory adds {_points(facts['both'], facts['adapter'])} of the facts",
            f"what the gate let through added {_points(facts['served'], facts['memory'])} of the facts,"
            f" {_points(style['served'], style['memory'])} of the style",
        ]
    else:
        lines = ["the last night trained no adapter: the memory is all there was to ask"]
    return [*lines, "the head did not learn: no bundle reads the mood here"]


def _points(one: Share, other: Share) -> str:
    """In points of a hundred."""
    return f"{100 * (one.value - other.value):+.0f} points"
