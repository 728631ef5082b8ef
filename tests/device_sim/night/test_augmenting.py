"""Questions that the base words itself: which are trained, and that nothing of them is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from device_sim.night import augmenting, state
from device_sim.night.augmenting import FORMS, augment
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.data import Item
from device_sim.night.engine import Prompted
from device_sim.night.html import page
from device_sim.night.planning import outlook
from device_sim.night.rendering import night_lines, outlook_lines
from device_sim.night.report import document, read_report
from device_sim.night.state import STATE_FILE, Night, folder_of, read_nights
from personality_common.errors import ConfigError
from personality_common.files.atomic import read_json_object
from personality_common.terminal.progress import SILENT

from .living import Day, embed
from .pretending import Pretender
from .test_commands import MADE, ROOM
from .test_cycle import bytes_of
from .test_kills import in_child

CAT = "What is my cat called?"


@dataclass
class Wording(Pretender):
    """It words each question otherwise, by the form in which it is asked.

    Attributes:
        asked: what it was asked to word.
    """

    asked: list[str] = field(default_factory=list)

    def answers(self, adapter: Path | None, asked: Sequence[Prompted], max_tokens: int) -> list[str]:
        starts = [form.split("{}")[0] for form in FORMS]
        if adapter is not None or not all(any(one.text.startswith(s) for s in starts) for one in asked):
            return super().answers(adapter, asked, max_tokens)
        self.at("wording")
        self.asked += [one.text for one in asked]
        found = []
        for one in asked:
            (number,) = [n for n, start in enumerate(starts) if one.text.startswith(start)]
            thing = next(thing for thing in ("cat", "dog") if thing in one.text)
            found.append(f'Well: "What is my {thing} called again number{number}?" Is your {thing} well?')
        return found


def told(day: Day) -> tuple[str, str]:
    """Ids of the turns that tell of a cat and a dog, beside talk."""
    with day:
        for i in range(24):
            day.talk(f"Walking{i} was dreary{i}.", "Oh.", edit=f"Walking{i} it was. Ahoy!")
        cat, _ = day.talk("My cat is called Mia.", "Nice.", route="memory")
        dog, _ = day.talk("My dog is called Rex.", "Nice.", route="memory")
    return cat, dog


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return Day(tmp_path / "store")


def live(store: Path, engine: Pretender | None = None, augment: int = 3, resume: bool = False) -> Night:
    config = NightConfig(store, min_free=0, augment=augment, resume=resume)
    night = run_night(config, engine or Wording(), SILENT)
    assert night is not None
    return night


def item(said: str, memory: str = "cat", told: str = "My cat is called Mia.", **more: Any) -> Item:
    return Item(f"{memory}.{said}", "fact", (memory,), "c", said, "Mia.", "Mia", told=told, **more)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("I cannot say.", augmenting.NO_QUESTION),
        ("What is your cat called?", augmenting.NOT_OWN),
        ("Can you tell me the answer?", augmenting.NOT_OWN),
        ("What is my cat called, and your cat?", augmenting.NOT_OWN),
        ("Is my cat called mia?", augmenting.HAS_VALUE),
        ("What is MY cat, called?", augmenting.KNOWN),
        ("Is my dog called something?", augmenting.ELSEWHERE),
        ("Of my dear cat what is then the very name ?", augmenting.HELD_BACK),
        ("How is my cat called then?", None),
    ],
)
def test_each_question_is_held_against_what_the_night_knows(answer: str, why: str | None) -> None:
    dog = item("Who is my dog?", "dog", "My dog is called Rex.", recall=False)
    held = item("Of my dear cat what is then the name ?", recall=True)
    found = augment([item(CAT), replace(dog, value="Rex")], [held], 1, lambda said: [
        answer if "cat" in one else "No." for one in said
    ], embed)  # fmt: skip
    cat = found.facts[0]
    assert cat.memory == "cat"
    if why is None:
        assert (cat.made, cat.kept, found.questions) == (1, 1, {"cat": (answer,)})
    else:
        assert (cat.kept, found.questions) == (0, {})
        assert cat.refused == {why: len(FORMS)}


def test_the_parts_of_a_value_are_kept_out_and_questions_are_found_in_talk() -> None:
    home = replace(item("Where do I live?", told="I live in Upper Graz."), value="Upper Graz")
    said = (
        '1. "Do I live near Graz?"\n2. Where is the place I live?\n3. Where is the place I live?\nYes. Why?'
    )
    found = augment([home], [], 9, lambda asked: [said for _ in asked], embed)
    assert found.questions == {"cat": ("Where is the place I live?",)}
    assert found.facts[0].refused[augmenting.HAS_VALUE] == len(FORMS)


def test_no_more_are_kept_than_are_wanted_and_they_are_spread(day: Day) -> None:
    cat, dog = told(day)
    engine = Wording()
    night = live(day.store, engine)
    assert [(one.memory, one.kept) for one in night.augmented] == [(cat, 2), (dog, 1)]
    ((train, _),) = engine.trained
    worded = [(asked, answer) for asked, answer in train if "again number" in asked.text]
    assert [(bool(asked.memories), answer) for asked, answer in worded] == [
        (beside, f"Your {thing}.")
        for thing in ("cat is called Mia", "cat is called Mia", "dog is called Rex")
        for beside in (True, False)
    ]
    assert all(asked.memories[0].startswith("My ") for asked, _ in worded if asked.memories)
    assert len(engine.asked) == 4  # two rounds of two facts


def test_none_is_the_default_and_the_night_is_as_it_was(day: Day) -> None:
    told(day)
    engine = Wording()
    night = live(day.store, engine, augment=0)
    assert night.augmented == ()
    assert not engine.asked
    assert not any("again" in asked.text for asked, _ in engine.trained[0][0])
    assert "own words" not in "\n".join(night_lines(night)) + page(read_report(day.store), MADE)
    with pytest.raises(ConfigError, match="--augment must be from 0 to 1,000, got -1"):
        NightConfig(day.store, augment=-1)


def test_the_report_says_of_which_memories_and_has_no_question(day: Day) -> None:
    cat, _ = told(day)
    night = live(day.store)
    assert night.augmented[0] == state.Augmented(cat, 4, 2, {augmenting.NOT_OWN: 2})
    lines = "\n".join(night_lines(night))
    assert "3 questions about facts in the base's own words, too, of 7 that it made for 2 facts" in lines
    assert "facts; refused: 4 not of the one who asks" in lines
    found = read_report(day.store)
    made = page(found, MADE)
    assert "Questions in the base" in made
    assert "My cat is called Mia." in made
    for text, schema in ((document(found), "nights"), (read_json_object(_state(day.store)), "night")):
        jsonschema.validate(text, read_json_object(ROOM / f"{schema}.schema.json"))
    assert cat not in json.dumps(document(found))
    assert b"again number" not in bytes_of(day.store)
    assert not (folder_of(day.store, 1) / state.AUGMENTED_FILE).exists()


def _state(store: Path) -> Path:
    return folder_of(store, 1) / STATE_FILE


def test_a_dry_run_says_at_most_and_asks_nobody(day: Day) -> None:
    told(day)
    before = bytes_of(day.store)
    lines = [str(line) for line in outlook_lines(outlook(day.store, "default", 0, embed, augment=7), False)]
    assert "     7  questions about facts, at most, in the base's own words" in lines
    assert bytes_of(day.store) == before
    assert outlook(day.store, "default", 0, embed).augment == 0


def test_what_was_forgotten_has_no_questions_any_more(day: Day) -> None:
    cat, _ = told(day)
    engine = Wording()
    live(day.store, engine)
    day.forget(cat)
    with day:
        for i in range(40):
            day.talk(f"Sailing{i} is odd{i}.", "Oh.", edit=f"Sailing{i} it is. Ahoy!")
    night = live(day.store, engine)
    assert cat not in {one.memory for one in night.augmented}
    (_, (train, _)) = engine.trained
    assert not any("my cat" in asked.text.casefold() for asked, _ in train)
    assert "My cat is called Mia." not in page(read_report(day.store, 1), MADE)


@pytest.mark.parametrize("what", ["wording", "epoch 1", "written"])
@pytest.mark.parametrize("resume", [False, True], ids=["anew", "resumed"])
def test_killed_it_ends_as_one_that_was_not(day: Day, tmp_path: Path, what: str, resume: bool) -> None:
    told(day)
    shutil.copytree(day.store, tmp_path / "whole")
    engine = Wording()
    wanted = live(tmp_path / "whole", engine)

    def at(now: str) -> None:
        if now == what:
            os.kill(os.getpid(), signal.SIGKILL)

    assert not in_child(lambda: live(day.store, Wording(at=at)))
    again = Wording()
    night = live(day.store, again, resume=resume)
    assert night.augmented == wanted.augmented
    assert night.version is not None
    assert wanted.version is not None
    assert again.trained == engine.trained
    assert bool(again.asked) == (what == "wording" or not resume)  # else they were on the disk
    assert b"again number" not in bytes_of(day.store)


def test_what_is_forgotten_while_the_night_is_stopped_is_on_no_disk(day: Day) -> None:
    cat, _ = told(day)

    def at(now: str) -> None:
        if now == "epoch 1":
            os.kill(os.getpid(), signal.SIGKILL)

    assert not in_child(lambda: live(day.store, Wording(at=at)))
    assert b"my cat called again" in bytes_of(folder_of(day.store, 1))
    day.forget(cat)
    night = live(day.store, resume=True)
    assert [one.memory for one in night.augmented] != [cat]
    assert b"my cat called again" not in bytes_of(day.store)
    assert read_nights(day.store) == [night]
