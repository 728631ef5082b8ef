"""Invented people who teach a model to read its memories, and facts beside what is remembered."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from device_sim.capability.rules import fold, has_word
from device_sim.capability.suite import default_suite, probes
from device_sim.companion.events import Turn
from device_sim.companion.log import read_events
from device_sim.companion.prompt import is_question
from device_sim.night import reading
from device_sim.night.engine import Prompted
from device_sim.night.general import care, prompts
from device_sim.night.measuring import IN_VAIN
from device_sim.night.planning import outlook
from device_sim.night.reading import PEOPLE, beside, in_vain, measured, readings
from device_sim.night.recalling import recalled
from device_sim.week.user import WORDS

from .living import Day, embed
from .pretending import Pretender
from .test_cycle import live, some
from .test_split import item

STRANGE = Path(__file__).parents[2] / "benchmarks" / "reading_strange.txt"


def test_one_memory_has_what_is_answered() -> None:
    values = {v for fact in tomllib.loads(PEOPLE.read_text())["facts"] for v in fact["values"]}
    for prompted, answer in readings(200, 3):
        (value,) = (v for v in values if has_word(fold(answer), v))
        assert sum(has_word(fold(text), value) for text in prompted.memories) == 1
        assert not has_word(fold(prompted.text), value)
        assert len(set(prompted.memories)) == len(prompted.memories) >= reading.FEWEST
    answered = [[answer.split()[-1].rstrip(".") in m for m in p.memories] for p, answer in readings(200, 3)]
    assert 0.5 < sum(row[0] for row in answered) / 200 < 0.8  # mostly the first, and not always
    assert 70 < sum(p.score > 0 for p, _ in readings(200, 3)) < 130


def test_a_seed_is_a_set() -> None:
    assert readings(50, 1) == readings(50, 1)
    assert readings(50, 1) != readings(50, 2)
    assert len({answer for _, answer in readings(19, 1)}) == 19  # every kind of fact once


def test_no_value_and_no_question_is_one_that_reading_is_measured_with() -> None:
    ours, theirs = (tomllib.loads(path.read_text()) for path in (PEOPLE, WORDS))
    values = [{fold(v) for fact in words["facts"] for v in fact["values"]} for words in (ours, theirs)]
    asked = [{fold(q) for fact in words["facts"] for q in fact["ask"]} for words in (ours, theirs)]
    assert not values[0] & values[1]
    assert not asked[0] & asked[1]
    assert not {fold(t) for t in ours["things"]} & {fold(t) for t in theirs["things"]}
    text = fold(PEOPLE.read_text())
    assert not [value for value in values[1] if has_word(text, value)]


def test_what_is_measured_in_vain_is_never_trained() -> None:
    words, ours = (tomllib.loads(path.read_text()) for path in (WORDS, PEOPLE))
    asked = {fold(q) for q in measured()}
    assert len(asked) == len(measured()) >= 2 * IN_VAIN
    near = [q for fact in ours["facts"] for q in fact["in_vain"]]
    trained = [*near, *(q for fact in ours["facts"] for q in fact["ask"]), *(p.said for p in prompts())]
    assert len({fold(q) for q in trained}) == len(trained)
    others = {fold(q) for q in (*trained, *care(), *STRANGE.read_text().splitlines())}
    others |= {fold(task.prompt) for suite in (default_suite(), probes()) for task in suite.tasks}
    assert not asked & others
    assert not {fold(q) for q in near} & {fold(q) for q in STRANGE.read_text().splitlines()}
    values = [v for facts in (words["facts"], ours["facts"]) for fact in facts for v in fact["values"]]
    assert not [(v, q) for v in values for q in (*measured(), *near) if has_word(fold(q), fold(v))]
    assert all(is_question(q) for q in (*measured(), *near))


def test_what_is_asked_near_a_memory_has_it_beside() -> None:
    asked, facts = in_vain(3), tomllib.loads(PEOPLE.read_text())["facts"]
    assert asked == in_vain(3) != in_vain(4)
    assert [one.text for one in asked] == [q for fact in facts for q in fact["in_vain"]]
    of = [fact for fact in facts for _ in fact["in_vain"]]
    for one, fact in zip(asked, of, strict=True):
        told = {say.format(value) for say in fact["say"] for value in fact["values"]}
        assert len(told & set(one.memories)) == 1


def test_what_is_asked_in_vain_has_nothing_that_is_told() -> None:
    words, asked = tomllib.loads(WORDS.read_text()), STRANGE.read_text().splitlines()
    told = [value for fact in words["facts"] for value in fact["values"]]
    assert len(asked) == len(set(asked)) == 24
    assert all(is_question(one) and any(has_word(fold(one), me) for me in ("i", "my", "me")) for one in asked)
    assert not [one for one in asked if any(has_word(fold(one), value) for value in told)]
    assert not {fold(one) for one in asked} & {fold(q) for fact in words["facts"] for q in fact["ask"]}


def test_what_has_nothing_to_do_with_memories_keeps_its_answer_beside_them() -> None:
    said = [(Prompted(f"question {i}?"), f"answer {i}") for i in range(30)]
    found = beside(said, 5)
    assert [(p.text, answer) for p, answer in found] == [(p.text, answer) for p, answer in said]
    assert all(p.memories and p.score == 0 for p, _ in found)
    assert len({p.memories for p, _ in found}) == 30


def test_a_fact_is_asked_beside_what_is_nearest_to_it() -> None:
    talk = [replace(item(i), said=f"talk of number{i}") for i in range(8)]
    fact = replace(item(9), kind="fact", said="What is my cat called?", told="My cat is called Mia.")
    alone, asked = recalled([talk[0], fact], [*talk, fact], embed)
    assert alone == Prompted("talk of number0")
    assert asked.memories[0] == "My cat is called Mia."
    assert len(asked.memories) == 5
    (here, there) = embed(["What is my cat called?", "My cat is called Mia."])
    assert abs(asked.score - float(here @ there)) < 1e-6
    assert recalled([fact], [], embed) == [Prompted("What is my cat called?")]


def test_a_night_with_facts_reads_quotes_what_it_trains_alone_and_forgets(tmp_path: Path) -> None:
    day, engine = Day(tmp_path / "store"), Pretender()
    with day:
        for i in range(24):
            day.talk(f"Walking{i} was dreary{i}.", "Oh.", edit=f"Walking{i} it was. Ahoy!")
        told, _ = day.talk("My cat is called Mia.", "Nice.", route="memory")
        other, _ = day.talk("My dog is called Rex.", "Nice.", route="memory")
    ahead = outlook(day.store, "default", 0, embed)
    first = some(live(day, engine))
    ((train, _),) = engine.trained
    facts = [p for p, answer in train if answer == "Your cat is called Mia."]
    assert sorted(bool(p.memories) for p in facts) == [False] * 4 + [True] * 4
    quoted = {text for p, answer in train if "Mia" in answer or "Rex" in answer for text in p.memories}
    assert {"My cat is called Mia.", "My dog is called Rex."} <= quoted
    trained = {p.text for p, _ in train}
    assert {text for text in quoted if text.startswith("Walking")} <= trained
    assert {told, other} <= set(first.saw)
    assert any(p.memories and answer not in ("Your cat is called Mia.", "Your dog is called Rex.")
               for p, answer in train)  # fmt: skip
    assert any(p.memories for p, _ in engine.replayed[0])
    assert sorted(p.text for p, _ in engine.replayed[0] if p.text in care()) == sorted(2 * care())
    near = {one.text for one in in_vain(0)}
    assert {p.text for p, _ in engine.replayed[0]} >= near
    assert len(engine.replayed[0]) == 2 * ahead.replay + len(near)  # alone, beside memories; asked in vain
    texts = {e.id: e.body.text for e in read_events(day.store / "events") if isinstance(e.body, Turn)}
    turns = list(texts)
    before = {id: turns[turns.index(id) - 1] for id in first.split.train if id in texts}
    gone, lost = next((id, texts[asked]) for id, asked in before.items() if texts[asked] in quoted)
    assert lost is not None
    day.forget(told, before[gone], gone)
    second = some(live(day, engine))
    (_, (train, _)) = engine.trained
    assert not any(word in text for p, _ in train for text in (p.text, *p.memories) for word in ("Mia", lost))
    assert second.unclean == ((first.version,) if first.version else ())


def test_a_night_without_facts_is_as_it_was(tmp_path: Path) -> None:
    day, engine = Day(tmp_path / "store"), Pretender()
    with day:
        for i in range(24):
            day.talk(f"Walking{i} was dreary{i}.", "Oh.", edit=f"Walking{i} it was. Ahoy!")
    night = some(live(day, engine))
    ((train, _),) = engine.trained
    assert len(train) == len(night.split.train)
    assert not any(p.memories or p.text in care() for p, _ in (*train, *engine.replayed[0]))
