"""Whether facts that are told tonight are those of the person who was there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from device_sim.companion.events import Event, Turn
from device_sim.night.gate.told import person
from device_sim.night.person import Retold, retold
from device_sim.night.state import Night, Settings
from device_sim.week.user import User

from .living import Day
from .pretending import Pretender
from .test_cycle import bytes_of, live, some

NIGHT = Night(1, "done", "", Settings("m", "default", "short", 1.0, 0, 1), "b", "", {}, turns=("t",))
ANN = (
    "My name is Ann.",
    "I live in Oslo.",
    "I work as a nurse.",
    "My cat is called Tom.",
    "I am 31 years old.",
)
BOB = (
    "My name is Bob.",
    "I live in Rome.",
    "I work as a clerk.",
    "My cat is called Leo.",
    "I am 54 years old.",
)


def compared(*days: Sequence[str], user: str = "default") -> Retold:
    """The last day against those before it, after each of which a night took something."""
    events: list[Event] = []
    nights: list[Night] = []
    for number, day in enumerate(days):
        nights.append(replace(NIGHT, until=events[-1].id if events else ""))
        for at, text in enumerate(day):
            events.append(Event(f"{number:04}{at:04}", "", user, Turn(f"{at}", "user", text)))
    return retold(events, "default", nights[1:], events[-1].id)


def refused(found: Retold) -> bool:
    return person(found.changed, found.again).check.failed


def lived(day: Day, facts: Sequence[str], end: str) -> list[str]:
    """Facts, of which those with a name are kept from training, and forty edits; ids of the facts' turns."""
    with day:
        told = [
            day.talk(said, "I see.", route="memory", tags=("no-train",) if "is called" in said else ())[0]
            for said in facts
        ]
        for i in range(40):
            thing = f"{end.strip('!').lower()}{i}"
            day.talk(f"Sailing{thing} was lovely{i}.", "Oh.", edit=f"Sailing{thing} it is. {end}")
    return told


def test_facts_with_another_value_are_found() -> None:
    assert compared(ANN, BOB) == Retold(("name", "home", "work", "called cat", "age"), 5)
    assert compared(ANN, [f"Hello! {BOB[0]} {BOB[1]} Is it cold?\n{ANN[2]}"]) == Retold(("name", "home"), 3)
    assert compared(ANN, ANN) == Retold((), 5)
    assert compared(ANN, ["I live in oslo, Norway!", "My favourite tea is sencha."]) == Retold((), 1)
    assert compared(["I live in Oslo."], ["I have moved to Rome."], ["I live in Rome."]) == Retold((), 1)
    assert compared(["I live in Oslo."], ["I live in Rome.", "I live in Oslo."]) == Retold(("home",), 1)
    assert compared(ANN, BOB, user="another") == Retold()
    assert compared(ANN + BOB) == Retold()


def test_what_a_night_did_not_take_is_still_in_question() -> None:
    events = [Event(f"{i}", "", "default", Turn("c", "user", said)) for i, said in enumerate((*ANN, *BOB))]
    taken, refused_then = replace(NIGHT, until="4"), replace(NIGHT, until="9", turns=())
    assert retold(events, "default", [taken, refused_then], "9").again == 5
    assert retold(events, "default", [taken, replace(refused_then, turns=("t",))], "9") == Retold()
    assert retold(events, "default", [taken], "6").changed == ("name", "home")


@pytest.mark.parametrize(
    ("changed", "again", "wrong"),
    [
        ((), 0, False),
        (("name",), 1, False),
        (("name", "home"), 2, True),
        (("name", "home"), 4, False),
        (("home", "work"), 2, False),
        (("home", "work", "mail", "address", "phone number"), 5, False),
        (("home", "work", "favourite tea"), 3, True),
        (("home", "work", "favourite tea"), 6, False),
        (("favourite tea", "favourite soup"), 2, False),
    ],
)
def test_most_facts_and_three_of_them_are_another_persons(
    changed: tuple[str, ...], again: int, wrong: bool
) -> None:
    assert refused(Retold(changed, again)) is wrong


def test_a_reason_names_no_word_of_the_users() -> None:
    finding = person(("name", "home", "called ferret", "favourite vice"), 4)
    assert finding.check.failed
    assert finding.reason.startswith(
        "of the facts that are told again, 4 of 4 have another value: name, home, 2 of the user's own; is"
    )


def test_honest_users_are_taken_for_themselves() -> None:
    """All simulated weeks of 200 users; and on the day on which one fact changed, all told again."""
    for seed in range(200):
        user = User(seed, 7, 20)
        days = [[message.said for message in user.day(day)] for day in range(1, 8)]
        again = [fact.say.format(user.value(fact, 7)) for fact in user.facts]
        for last in range(2, 8):
            assert not refused(compared(*days[:last])), seed
        found = compared(*days[:3], again)
        assert len(found.changed) == 1, seed
        assert not refused(found), seed


def test_people_who_tell_their_names_are_seen_and_of_others_half() -> None:
    """Each tells five facts of seven; an allergy is never compared, since there may be several."""
    days = [[f.say.format(f.value) for f in User(seed, 7, 20).facts] for seed in range(400)]
    unnamed = [refused(compared(days[i], days[i + 200])) for i in range(200)]
    named = [refused(compared([ANN[0], *days[i]], [BOB[0], *days[i + 200]])) for i in range(200)]
    assert 90 <= sum(unnamed) <= 130
    assert sum(named) >= 190


def test_another_persons_day_is_refused_until_one_of_both_is_forgotten(tmp_path: Path) -> None:
    day, engine = Day(tmp_path / "store"), Pretender()
    first = lived(day, ANN, "Ahoy!")
    assert some(live(day, engine)).turns
    trained = len(engine.trained)
    lived(day, BOB, "Farewell!")
    night = some(live(day, engine))
    assert night.accepted is False
    assert len(engine.trained) == trained
    assert [check.id for check in night.checks if check.failed] == ["gate.person"]
    assert "name, home, work, age, 1 of the user's own" in night.reasons[0]
    assert b"Bob" not in bytes_of(day.store / "nights")
    day.talk("The weather was odd, number99.", "Oh.", edit="Odd weather. Ahoy!")
    assert [c.id for c in some(live(day, engine)).checks if c.failed] == ["gate.person"]
    day.forget(*first)
    some(live(day, engine))
    assert len(engine.trained) == trained + 1
