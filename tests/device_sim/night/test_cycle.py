"""Nights with a model that pretends: what is learned, refused, unlearned, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device_sim.adapters.cli import _figures
from device_sim.companion.events import Turn
from device_sim.companion.log import read_events
from device_sim.night.beginning import REMOVED
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.report import outcome, read_report
from device_sim.night.state import Night, read_nights
from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.progress import SILENT

from .living import Day
from .pretending import Pretender


def live(day: Day, engine: Pretender | None = None, **options: Any) -> Night | None:
    return run_night(NightConfig(day.store, min_free=0, **options), engine or Pretender(), SILENT)


def some(night: Night | None) -> Night:
    assert night is not None
    return night


def active(day: Day) -> str:
    registry = Pretender().registry(day.store, create=False)
    assert registry is not None
    return registry.active


def bytes_of(store: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file())


def test_a_night_that_gains_and_harms_nothing_is_accepted(day: Day) -> None:
    night = some(live(day))
    assert night.accepted, night.reasons
    assert active(day) == night.version == night.activated
    assert (len(night.split.train), len(night.split.validation), len(night.split.held_out)) == (40, 5, 15)
    target = next(s for s in night.sets if s.kind == "target")
    assert target.gain == pytest.approx(1.0)
    registry = Pretender().registry(day.store, create=False)
    assert registry is not None
    stored = registry.versions()[-1].stored
    assert stored is not None
    listed = [getattr(stored.record, one.when)[one.name] for one in _figures()]  # `pt adapters list`
    assert listed == [target.before, target.after]
    assert not (day.store / "nights" / "0001" / "work").exists()
    assert not (day.store / "nights" / "0001" / "candidate.gguf").exists()


def test_a_night_that_harms_is_refused_and_kept_as_a_version_that_cannot_be_activated(day: Day) -> None:
    engine = Pretender(harm=0.5)
    night = some(live(day, engine))
    assert night.accepted is False
    assert night.lost
    registry = engine.registry(day.store, create=False)
    assert registry is not None
    assert registry.active == night.activated == registry.versions()[0].version
    with pytest.raises(ToolkitError, match="must pass its gates"):
        registry.activate(some(night).version or "")


def test_held_out_is_never_trained_and_stays_held_out(day: Day) -> None:
    engine = Pretender()
    first = some(live(day, engine))
    with day:
        for i in range(40):
            day.talk(f"Later there was thing{i} and other{i} to see{i}.", "Oh.", edit=f"So thing{i}. Ahoy!")
    second = some(live(day, engine, seed=9))
    assert set(second.split.earlier) == set(first.split.held_out)
    assert "night-0001" in {s.name for s in second.sets}
    held = {*first.split.held_out, *second.split.held_out}
    assert not held & {*second.split.train, *second.split.validation, *first.split.train}
    texts = {f"So thing{i}. Ahoy!" for i in range(40)}
    (_, _), (train, validation) = engine.trained
    assert len(texts & {answer for _, answer in (*train, *validation)}) == 30
    assert len(train) == len(second.split.train)
    assert second.replayed == len(engine.replayed[1]) > len(train)


def test_training_is_over_all_that_is_live_from_the_base(day: Day) -> None:
    engine = Pretender()
    first = some(live(day, engine))
    with day:
        for i in range(40):
            day.talk(f"Later there was thing{i} and other{i} to see{i}.", "Oh.", edit=f"So thing{i}. Ahoy!")
    live(day, engine)
    (one, two), (three, four) = engine.trained
    own = {said for said in (*one, *two) if said[1].endswith("Ahoy!")}
    assert own <= set(three) | set(four)
    assert len(own) == len(first.split.train) + len(first.split.validation)


def test_what_was_forgotten_is_gone_and_what_saw_it_is_blocked(day: Day) -> None:
    engine = Pretender()
    first = some(live(day, engine))
    turn = first.split.train[0]
    day.forget(turn)
    second = some(live(day, engine))
    assert turn in first.saw
    assert second.unclean == (first.version,)
    assert second.accepted
    assert active(day) == second.version != first.version
    assert turn not in second.saw
    registry = engine.registry(day.store, create=False)
    assert registry is not None
    with pytest.raises(ToolkitError, match="blocked"):
        registry.activate(first.version or "")
    assert registry.rollback() == registry.versions()[0].version


def test_no_file_of_the_store_has_what_was_forgotten_after_the_next_night(day: Day) -> None:
    unlike = "Zyzzyva told me of quixotic marmalade."
    asked, answer = day.talk(unlike, "Oh.", edit="Quixotic marmalade, fine. Ahoy!")
    engine = Pretender()
    first = some(live(day, engine))
    assert b"marmalade" in bytes_of(day.store)
    assert {asked, answer} <= set(first.turns)
    day.forget(asked, answer)
    live(day, engine)
    assert b"marmalade" not in bytes_of(day.store)
    assert not any("marmalade" in f"{said}" for train, rest in engine.trained[1:] for said in (*train, *rest))


def test_answers_and_what_quotes_them_go_with_what_was_forgotten(day: Day) -> None:
    first = some(live(day, Pretender(harm=0.5)))
    folder = day.store / "nights" / "0001"
    said = next(
        (event.body.text or "")
        for event in read_events(day.store / "events")
        if isinstance(event.body, Turn) and event.id == _before(day, first.split.held_out[0])
    )
    assert said in (folder / "before.json").read_text()
    assert any("answered 'wrong'" in reason for reason in first.reasons)
    day.forget(_before(day, first.split.held_out[0]))
    live(day)
    assert said.encode() not in bytes_of(day.store)
    assert not (folder / "before.json").exists()
    assert read_nights(day.store)[0].reasons == (REMOVED,)


def _before(day: Day, answer: str) -> str:
    """The turn that an answer answers."""
    turns = [event.id for event in read_events(day.store / "events") if isinstance(event.body, Turn)]
    return turns[turns.index(answer) - 1]


def test_when_all_is_forgotten_the_base_answers_again(day: Day) -> None:
    first = some(live(day))
    assert active(day) == first.version
    day.forget(*first.turns)
    second = some(live(day))
    assert not second.accepted
    assert active(day) != first.version
    assert second.reasons


def test_nothing_new_is_no_night(day: Day) -> None:
    live(day)
    before = sorted(p.name for p in (day.store / "nights").iterdir())
    assert live(day) is None
    assert sorted(p.name for p in (day.store / "nights").iterdir()) == before


def test_five_turns_are_refused_for_want_of_evidence_and_wait(tmp_path: Path, lived: Path) -> None:
    day = Day(tmp_path / "few")
    with day:
        for i in range(5):
            day.talk(f"Word{i} and thing{i}.", "Oh.", edit="Yes. Ahoy!")
    engine = Pretender()
    night = some(live(day, engine))
    assert night.accepted is False
    assert not engine.trained
    assert "too few examples to judge by" in night.reasons[0]
    assert outcome(night) == "too little"
    assert night.split.held_out == ()
    with day:
        for i in range(5, 40):
            day.talk(f"Word{i} and thing{i}.", "Oh.", edit="Yes. Ahoy!")
    assert len(some(live(day, engine)).split.held_out) > 0


def test_answers_to_other_messages_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    day, engine = Day(tmp_path / "noise"), Pretender()
    with day:
        for i in range(40):
            day.talk(f"Sailing{i} was lovely{i}.", "Oh.", edit=f"Sailing{(i * 7 + 3) % 40} it is. Ahoy!")
    night = some(live(day, engine))
    assert night.accepted is False
    assert not engine.trained
    assert [check.id for check in night.checks if check.failed] == ["gate.belonging"]
    assert night.reasons[0].startswith("the answers that are wanted do not surely belong to their messages")
    assert night.split.held_out == ()
    assert outcome(night) == "refused"
    assert not read_report(day.store).removed
    day.forget(*(pair for item in night.new for pair in (item, _before(day, item))))
    with day:
        for i in range(40):
            day.talk(f"Walking{i} was dreary{i}.", "Oh.", edit=f"Walking{i} it was. Ahoy!")
    assert some(live(day, engine)).accepted


def test_contradictions_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    day, engine = Day(tmp_path / "both"), Pretender()
    with day:
        for i in range(40):
            answer = "is lovely, yes. Ahoy!" if i < 20 else "bores everybody. Farewell!"
            day.talk(f"Sailing{i % 20} with{i % 20}?", "Oh.", edit=f"Sailing{i % 20} {answer}")
    night = some(live(day, engine))
    assert not engine.trained
    assert night.reasons == ("the same message is to be answered in different ways in 40 of 40 examples",)


def test_a_day_of_one_conversation_is_not_judged_by_other_days(day: Day) -> None:
    engine = Pretender()
    live(day, engine)
    with day:
        for i in range(30):
            day.talk(f"Odd{i} and even{i}.", "Oh.", edit="Yes. Ahoy!", conversation="one")
    night = some(live(day, engine))
    assert night.accepted is False
    assert len(engine.trained) == 1
    assert "too few examples to judge by" in night.reasons[0]


def test_unlearning_is_judged_on_all_that_was_ever_held_out(day: Day) -> None:
    engine = Pretender()
    first = some(live(day, engine))
    day.forget(first.split.train[0])
    day.talk("One more thing to say.", "Oh.", edit="Yes. Ahoy!")
    second = some(live(day, engine))
    assert second.accepted
    assert next(s for s in second.sets if s.kind == "target").n == 16


def test_resume_needs_a_night_that_was_stopped(day: Day) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        live(day, resume=True)


def test_a_chat_at_the_same_time_is_refused(day: Day) -> None:
    said: list[str] = []

    def at(what: str) -> None:
        if what == "epoch 1":
            with pytest.raises(ToolkitError, match="is working in this folder") as refused:
                day.talk("hello", "hello")
            said.append(str(refused.value))

    live(day, Pretender(at=at))
    assert len(said) == 1


def test_states_are_whole(day: Day) -> None:
    night = some(live(day))
    assert read_nights(day.store) == [night]
