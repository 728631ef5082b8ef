"""What a week came to, of a week that was written by hand."""

from __future__ import annotations

import math

import pytest

from device_sim.week.figures import contributions, day_figures, headline, nights_taken, refusals
from device_sim.week.state import ARMS, Asked, Day, Exchange, Morning, NightCame, Settings, Styled, Week
from device_sim.week.user import User

SETTINGS = Settings(2, 24, 0, "smollm2", "short")
USER = User(0, 2, 24)
FIRST = USER.facts[0]
NEVER = "I do not know."


def asked(day: int, known: dict[str, int]) -> tuple[Asked, ...]:
    """A question about each fact, of which each arm knows the first few."""
    return tuple(
        Asked(f.what, f.ask[0], USER.value(f, day),
              {arm: f"It is {USER.value(f, day)}." if at < known[arm] else NEVER for arm in ARMS})
        for at, f in enumerate(USER.facts)
    )  # fmt: skip


def styled(day: int, shown: int) -> tuple[Styled, ...]:
    """Messages never said by day, the first few of which both answer as is liked on a day."""
    good = f"So. {USER.sign_off(day)}"
    return tuple(
        Styled(said, {"memory": "So.", "both": good if i < shown else "So.", "served": "So."})
        for i, said in enumerate(USER.kept())
    )


@pytest.fixture
def week() -> Week:
    exchanges = (
        Exchange("talks", "Boats.", "So.", "t1", 0, False, edit="So. Fair winds!"),
        Exchange("talks", "Bees.", "So. Stay curious!", "t2", 1, True, thumbs=1),
        Exchange("talks", "Ants.", "So.", "t3", 1, False, thumbs=-1),
        Exchange("asks", "Which?", NEVER, "t4", 1, False, FIRST.what, thumbs=-1),
    )
    one = Morning(
        asked(1, {"neither": 0, "memory": 2, "adapter": 3, "both": 5, "served": 2}), styled(1, 4),
        {"neither": 1.0, "adapter": 1.1, "served": 1.0},
    )  # fmt: skip
    two = Morning(
        asked(2, {"neither": 0, "memory": 2, "adapter": 1, "both": 4, "served": 4}), styled(1, 3),
        {"neither": 1.0, "adapter": 1.0, "served": 1.0},
    )  # fmt: skip
    refused = NightCame("refused", 1, failed=("gate.capability", "night.topic"))
    days = (
        Day(1, exchanges, True, refused, one, 10.0),
        Day(2, (), True, NightCame("accepted", 2), two, 20.0),
    )
    return Week(SETTINGS, days)


def test_shares_are_counted(week: Week) -> None:
    one, two = day_figures(week)
    assert {arm: (s.right, s.of) for arm, s in one.facts.items()} == {
        "neither": (0, 5), "memory": (2, 5), "adapter": (3, 5), "both": (5, 5), "served": (2, 5)
    }  # fmt: skip
    assert two.facts["both"].value == 0.8
    assert {arm: s.right for arm, s in one.style.items()} == {"memory": 0, "both": 4, "served": 0}
    assert (one.heard.right, one.heard.of) == (1, 3)
    assert (one.edits, one.thumbs_up, one.thumbs_down) == (1, 1, 2)
    assert one.perplexity == pytest.approx({"neither": 0.0, "adapter": math.exp(0.1) - 1, "served": 0.0})
    assert two.perplexity["adapter"] == 0


def test_after_the_drift_what_was_liked_and_true_before_is_told_apart(week: Week) -> None:
    one, two = day_figures(week)
    assert USER.drifts_on == 2
    assert (one.earlier, one.old) == ({}, {})
    # All of day 2 still have the old sign-off: three of both, and none has the new one.
    assert two.earlier["both"].right == 3
    assert two.style["both"].right == 0
    assert {arm: (s.right, s.of) for arm, s in two.old.items()} == dict.fromkeys(ARMS, (0, 1))


def test_what_each_part_gave_is_said(week: Week) -> None:
    assert headline(week) == (
        "Asked the next day, 5 of 5 answered with adapter and memory, 2 by the memory alone,"
        " 3 by the adapter alone"
    )
    said = contributions(day_figures(week))
    assert said[0] == "to the memory the adapter adds +40 points of the facts, and +0 points of the style"
    assert said[1] == "to the adapter the memory adds +60 points of the facts"
    assert said[2] == "what the gate let through added +40 points of the facts, +0 points of the style"
    assert "no bundle" in said[3]
    assert str(nights_taken(week)) == "1 of 2"
    assert refusals(week) == {"gate.capability": 1, "night.topic": 1}


def test_a_week_that_has_only_begun(week: Week) -> None:
    assert headline(Week(SETTINGS)) == "A week that has only begun"
    assert day_figures(Week(SETTINGS, (Day(1),))) == []
