"""What of a log may be learned."""

from pathlib import Path

import pytest

from device_sim.companion.events import Redacted
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.privacy.findings import PERSON
from device_sim.companion.store import hold_store
from device_sim.night import data
from device_sim.night.data import Collected, collect
from device_sim.night.facts import fact

from .living import Day


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return Day(tmp_path / "store")


def found(day: Day, until: str | None = None) -> Collected:
    return collect(read_events(day.store / "events"), "default", until)


def test_only_what_was_edited_or_praised_is_learned(day: Day) -> None:
    day.talk("one", "plain", edit="better")
    day.talk("two", "fine", reward=1.0)
    day.talk("three", "bad", reward=-1.0)
    day.talk("four", "nobody judged")
    day.talk("five", "bad at first", reward=-1.0, edit="mended")
    items = found(day).items
    assert [(i.said, i.answer) for i in items] == [("one", "better"), ("two", "fine"), ("five", "mended")]
    assert found(day).left_out == {data.BELOW_ZERO: 1, data.UNJUDGED: 1}


def test_an_edit_is_whole_though_its_answer_was_broken_off(day: Day) -> None:
    day.talk("cut", "The moon is", edit="Far.", partial=True)
    day.talk("cut and praised", "The sun is", reward=1.0, partial=True)
    assert [(i.said, i.answer) for i in found(day).items] == [("cut", "Far.")]
    assert found(day).left_out == {data.BROKEN_OFF: 1}


def test_what_is_private_is_never_data(day: Day) -> None:
    day.talk("marked", "a", edit="b", tags=("no-train",))
    day.talk("broken", "a", reward=1.0, partial=True)
    gone = day.talk("gone", "a", edit="b")
    _, named = day.talk("says a name in the edit", "a", edit="Ada")
    with hold_store(day.store) as held, EventLog(held.events) as log:
        log.append(Redacted(named, {PERSON: 1}))
    day.talk("another's", "a", edit="b", user="other")
    day.talk("kept", "a", edit="b")
    day.forget(gone[1])
    collected = found(day)
    assert [i.said for i in collected.items] == ["kept"]
    assert collected.left_out == {data.FORGOTTEN: 1, data.UNTRAINED: 1, data.BROKEN_OFF: 1}
    assert collected.forgotten == {gone[1]}


def test_routes(day: Day) -> None:
    day.talk("I live in Oslo.", "Nice.", route="memory")
    day.talk("I like it when you are brief.", "Ok.", route="memory")
    day.talk("hm", "hm", route="neither", reward=1.0)
    day.talk("My cat is called Mia.", "Long answer", route="both", edit="Short.")
    day.talk("no route", "a", route=None, edit="b")
    collected = found(day)
    assert [(i.kind, i.said) for i in collected.items if i.kind == "chat"] == [
        ("chat", "My cat is called Mia."), ("chat", "no route"),
    ]  # fmt: skip
    facts = [i for i in collected.items if i.kind == "fact"]
    assert {i.value for i in facts} == {"Oslo", "Mia"}
    assert [i.said for i in facts if i.recall] == [
        "What place do I call home?", "Name the place where I live.",
        "How is my cat named?", "Say what my cat is called.",
    ]  # fmt: skip
    assert collected.left_out == {data.NO_FORM: 1, data.NEITHER: 1}


def test_a_later_fact_takes_the_place_of_an_earlier_one(day: Day) -> None:
    day.talk("I live in Oslo.", "Nice.", route="memory")
    day.talk("I live in Rome.", "Nice.", route="memory")
    collected = found(day)
    assert {i.value for i in collected.items} == {"Rome"}
    assert collected.left_out == {data.REPLACED: 1}


def test_a_night_that_goes_on_sees_what_it_saw_but_for_what_was_forgotten(day: Day) -> None:
    first = day.talk("first", "a", edit="b")
    day.talk("second", "a", edit="b")
    until = found(day).until
    day.talk("third", "a", edit="b")
    day.forget(first[0])
    assert [i.said for i in found(day, until).items] == ["second"]
    assert first[0] in found(day, until).forgotten
    assert found(day, until).until == until


@pytest.mark.parametrize(
    ("text", "value", "answer"),
    [
        ("I live in Oslo.", "Oslo", "You live in Oslo."),
        ("My favourite colour is teal", "teal", "Your favourite colour is teal."),
        ("my birthday is 3 May.", "3 May", "Your birthday is 3 May."),
        ("I am allergic to tree nuts.", "tree nuts", "You are allergic to tree nuts."),
        ("My dog is named Rex", "Rex", "Your dog is called Rex."),
    ],
)
def test_facts(text: str, value: str, answer: str) -> None:
    told = fact(text)
    assert told is not None
    assert (told.value, told.answer) == (value, answer)
    assert len(set(told.questions)) == 6


@pytest.mark.parametrize("text", ["Hello.", "I do not live in Oslo.", "My dog is Rex, and I live in Oslo."])
def test_other_texts_are_no_facts(text: str) -> None:
    assert fact(text) is None
