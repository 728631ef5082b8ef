"""The simulated user: what is told can be learned and asked, and what is liked is judged as people would."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from device_sim.companion.privacy.filter import Filter
from device_sim.night.facts import fact
from device_sim.week.user import FACTS, WORDS, User, knows, shows

ENTRIES = tomllib.loads(WORDS.read_text())


def test_the_same_seed_is_the_same_person_and_another_another() -> None:
    one, same, other = (User(seed, 7, 24) for seed in (3, 3, 4))
    assert [one.day(d) for d in range(1, 8)] == [same.day(d) for d in range(1, 8)]
    assert one.facts == same.facts
    assert one.day(1) != other.day(1)


@pytest.mark.parametrize("entry", ENTRIES["facts"], ids=lambda entry: entry["what"])
def test_each_fact_can_be_learned_replaced_and_is_asked_in_words_that_no_night_trains(entry: dict) -> None:  # type: ignore[type-arg]
    values = entry["values"]
    assert len(set(values)) == len(values) >= 2
    for value in values:
        told = fact(entry["say"].format(value))
        assert told is not None
        assert told.value == value
        assert not set(entry["ask"]) & set(told.questions)
        assert not any(knows(question, value) for question in entry["ask"])
        if "changed" in entry:
            later = fact(entry["changed"].format(value))
            assert later is not None
            assert (later.what, later.value) == (told.what, value)
    # Names of people would keep a turn out of training.
    texts = [form.format(v) for v in values for form in (entry["say"], entry.get("changed", "")) if form]
    assert Filter("mask").redact(" ".join(texts)).counts == {}


@pytest.mark.parametrize(("days", "turns"), [(2, 8), (3, 24), (7, 24), (14, 40)])
def test_a_week_tells_changes_and_asks(days: int, turns: int) -> None:
    user = User(1, days, turns)
    plan = {day: user.day(day) for day in range(1, days + 1)}
    assert {len(messages) for messages in plan.values()} == {turns}
    kinds = {day: Counter(m.kind for m in messages) for day, messages in plan.items()}
    assert kinds[1]["tells"] == FACTS == sum(kind["tells"] for kind in kinds.values())
    assert {day for day in kinds if kinds[day]["asks"]} == {2, min(5, days)}
    assert {day: kind["changes"] for day, kind in kinds.items() if kind["changes"]} == {user.drifts_on: 1}
    said = [m.said for messages in plan.values() for m in messages if m.kind == "talks"]
    assert not set(said) & set(user.kept())
    assert len(said) == len(set(said))
    assert user.sign_off(user.drifts_on - 1) != user.sign_off(user.drifts_on)


def test_what_the_style_is() -> None:
    for answer in ("Boats float. Fair winds!", "Boats float.\nfair winds.", "Fair winds!"):
        assert shows(answer, "Fair winds!"), answer
    for answer in ("Boats float.", "Fair winds! Boats float.", "One. Two. Fair winds!", ""):
        assert not shows(answer, "Fair winds!"), answer


def test_what_knowing_is() -> None:
    assert knows("You drink Rooibos, I think.", "rooibos")
    assert knows("A TRAM  driver!", "tram driver")
    assert not knows("Figure it out", "figs")
    assert not knows("configs", "figs")


def test_what_the_user_does_with_an_answer() -> None:
    user = User(0, 7, 24)
    messages = user.day(1)
    at = next(i for i, m in enumerate(messages) if m.kind == "talks")
    good = user.judges(1, at, messages[at], f"Yes. {user.sign_off(1)}")
    assert (good.edit, good.thumbs) == (None, 1)
    found = [
        user.judges(day, i, m, "One thing is so. Another is not. And a third.")
        for day in (1, 2, 3) for i, m in enumerate(user.day(day)) if m.kind == "talks"
    ]  # fmt: skip
    edits = [v.edit for v in found if v.edit]
    assert set(edits) == {f"One thing is so. {user.sign_off(1)}"}
    assert 0 < sum(v.thumbs == -1 for v in found) < len(edits)
    # Once another sign-off is liked, the old one is no sentence to keep.
    late = user.drifts_on
    found = [
        user.judges(late, i, m, f"{user.sign_off(1)} Yes.")
        for i, m in enumerate(user.day(late)) if m.kind == "talks"
    ]  # fmt: skip
    assert {verdict.edit for verdict in found} - {None} == {f"Yes. {user.sign_off(late)}"}


def test_what_was_asked_and_not_known_gets_a_thumb_down() -> None:
    user = User(0, 7, 24)
    for day in (2, 5):
        for at, message in enumerate(user.day(day)):
            if message.kind == "asks":
                value = user.value(next(f for f in user.facts if f.what == message.what), day)
                assert user.judges(day, at, message, f"It is {value}.").thumbs is None
                assert user.judges(day, at, message, "I do not know.").thumbs == -1
