"""A head learns nothing of reactions that may be another person's; what must be unlearned, it unlearns."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from device_sim.heads.heads import open_heads
from device_sim.night import beginning, cycle, state
from device_sim.night.gate.told import person
from device_sim.night.html import page
from device_sim.night.rendering import head_lines
from device_sim.night.report import read_report
from device_sim.night.state import Night, read_nights
from device_sim.night.teaching import identical

from .hearing import react
from .living import Day
from .test_commands import MADE
from .test_head import active, listens, live
from .test_kills import in_child
from .test_person import ANN, BOB
from .test_person import lived as write_day

__all__ = ["listens"]


def tell(day: Day, facts: Sequence[str]) -> list[str]:
    """Facts that are for the memory alone, so that the adapter has no news; ids of their turns."""
    with day:
        return [day.talk(said, "I see.", route="memory", tags=("no-train",))[0] for said in facts]


@pytest.fixture
def ann(day: Day) -> Day:
    """A store that has taken a day of Ann's, both its edits and its reactions."""
    tell(day, ANN)
    react(day, 0, 100)
    night = live(day)
    assert night.head is not None
    assert (night.accepted, night.head.accepted) == (True, True), night.reasons
    return day


def bob(day: Day) -> tuple[list[str], list[str]]:
    """Ids of his facts' turns, and of the answers that he thought something of."""
    return write_day(day, BOB, "Farewell!"), react(day, 100, 60)


def test_neither_learns_from_another_person_until_it_is_forgotten(ann: Day) -> None:
    before, (first,) = active(ann.store), read_nights(ann.store)
    facts, heard = bob(ann)
    own = react(ann, 200, 40)
    night = live(ann)
    head = night.head
    assert head is not None
    assert first.head is not None
    assert (night.accepted, head.accepted, head.version) == (False, False, None)
    assert active(ann.store) == before == (night.activated, head.activated)
    assert (head.new, head.reactions, head.saw) == ((), 100, first.head.saw)
    assert [check.id for check in head.checks] == ["head.person"]
    assert head.reasons[0].startswith("not heard yet: 100 new reactions; of the facts that are told again")
    assert head.reasons[0] in "\n".join(head_lines(night))
    assert "not heard yet: 100 new reactions" in page(read_report(ann.store), MADE)
    assert len(open_heads(ann.store).versions()) == 2
    ann.forget(*facts, *heard)
    after = live(ann).head
    assert after is not None
    assert after.new == tuple(own)
    assert (after.reactions, after.accepted) == (140, True)


def test_what_was_forgotten_is_unlearned_without_the_other_s_reactions(ann: Day, tmp_path: Path) -> None:
    (first,) = read_nights(ann.store)
    assert first.head is not None
    ann.forget(first.head.new[7])
    alone = Day(tmp_path / "alone")
    shutil.copytree(ann.store, alone.store)
    bob(ann)
    night, never = live(ann), live(alone)
    assert night.head is not None
    assert never.head is not None
    assert (night.accepted, night.head.accepted, never.head.accepted) == (False, True, True)
    assert (night.head.new, night.head.reactions) == ((), 99)
    assert night.head.reasons[0].startswith("not heard yet: 60 new reactions")
    assert first.head.version in night.unclean
    ours, theirs = open_heads(ann.store), open_heads(alone.store)
    assert ours.active == night.head.version
    assert identical(ours.load(ours.active), theirs.load(theirs.active))
    after = live(ann).head
    assert after is not None
    assert (after.reactions, after.new, after.accepted) == (99, (), False)
    assert after.activated == ours.active


def test_where_the_head_alone_has_news_it_is_asked_too(tmp_path: Path) -> None:
    day = Day(tmp_path / "store")
    tell(day, ANN)
    react(day, 0, 100)
    assert live(day).accepted is None
    before = open_heads(day.store).active
    tell(day, BOB[:1])
    react(day, 100, 20)
    assert (live(day).head or _none()).new
    told = tell(day, BOB)
    react(day, 120, 40)
    night = live(day)
    assert night.head is not None
    assert (night.accepted, night.head.accepted, night.head.reactions) == (None, False, 120)
    assert open_heads(day.store).versions()[1].version == before
    day.forget(*told)
    assert len((live(day).head or _none()).new) == 40


def _none() -> state.HeadNight:
    raise AssertionError("there must be a head")


@pytest.mark.parametrize("step", ["head", "split"])
def test_a_night_that_an_earlier_version_stopped_goes_on(
    ann: Day, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It made the head of all reactions, and asked afterwards."""
    before = active(ann.store)
    bob(ann)

    def stopping(store: Path, night: Night) -> None:
        state.write_night(store, night)
        if night.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cycle, "write_night", stopping)
        patch.setattr(beginning, "write_night", stopping)
        patch.setattr(cycle, "_person", lambda *_: person((), 0))
        with pytest.raises(KeyboardInterrupt):
            live(ann)
    stopped = read_nights(ann.store)[-1]
    assert (stopped.step, stopped.head is not None and len(stopped.head.new)) == (
        step, 60 if step == "split" else False,
    )  # fmt: skip
    night = live(ann, bundle=None, resume=True)
    assert night.head is not None
    assert (night.accepted, night.head.accepted, night.head.new) == (False, False, ())
    assert active(ann.store) == before


@pytest.mark.parametrize("forgets", [False, True], ids=["held back", "unlearned"])
def test_killed_anywhere_it_ends_as_one_that_was_not(ann: Day, tmp_path: Path, forgets: bool) -> None:
    (first,) = read_nights(ann.store)
    bob(ann)
    if forgets:
        ann.forget((first.head or _none()).new[7])
    whole = Day(tmp_path / "whole")
    shutil.copytree(ann.store, whole.store)
    wanted = live(whole)
    for step in ("split", "register", "activate"):
        day = Day(tmp_path / step)
        shutil.copytree(ann.store, day.store)

        def killing(store: Path, night: Night, step: str = step) -> None:
            state.write_night(store, night)
            if night.number == 2 and night.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def work(day: Day = day, killing: object = killing) -> None:
            cycle.write_night = beginning.write_night = killing  # type: ignore[attr-defined,assignment]
            live(day)

        assert not in_child(work)
        night = live(day, resume=True)
        assert _timeless(night) == _timeless(wanted)
        assert active(day.store) == active(whole.store)


def _timeless(night: Night) -> Night:
    return replace(night, began="", ended="", seconds={})
