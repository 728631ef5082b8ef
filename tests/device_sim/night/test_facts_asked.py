"""A night's facts are asked twice, beside the memory and without it, and judged by both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.engine import Prompted
from device_sim.night.html import page
from device_sim.night.measuring import ALONE, FACTS, UNASKED, read_measured
from device_sim.night.reading import measured
from device_sim.night.report import document, read_report
from device_sim.night.state import AFTER_FILE, BEFORE_FILE, STATE_FILE, Night, folder_of
from personality_common.evidence.claims import Check
from personality_common.evidence.provenance import Provenance
from personality_common.files.atomic import read_json_object
from personality_common.terminal.progress import SILENT

from .living import Day
from .pretending import Pretender

ROOM = Path(__file__).parents[3] / "device_sim" / "night"
BOTH = (BEFORE_FILE, AFTER_FILE)
MADE = Provenance("2026-11-29T10:00:00+00:00", "pt night report", "here", {"python": "3"})
TOLD = {
    "My cat is called Mia.": "Mia",
    "I live in Graz.": "Graz",
    "My dog is called Bodo.": "Bodo",
    "My horse is called Zora.": "Zora",
    "My boat is called Argo.": "Argo",
}


@dataclass
class Knowing(Pretender):
    """It reads its memories; an adapter knows by heart what was told, or reads no more.

    Attributes:
        learns, reads: whether an adapter does.
        tells: how many of the questions that the memory does not answer an adapter answers with it.
        asked: prompts of each call that had a question about what was told.
    """

    learns: bool = True
    reads: bool = True
    tells: int = 0
    asked: list[list[Prompted]] = field(default_factory=list)

    def answers(self, adapter: Path | None, asked: Sequence[Prompted], max_tokens: int) -> list[str]:
        if not any(one.memories for one in asked):
            return super().answers(adapter, asked, max_tokens)
        if asked[0].text in measured():
            told = self.tells if adapter else 0
            return ["It is Mia." if i < told else "Hm." for i in range(len(asked))]
        self.asked.append(list(asked))
        by_heart = " ".join(TOLD.values()) if adapter and self.learns else "Nobody knows."
        reads = adapter is None or self.reads
        return [" ".join(one.memories) if one.memories and reads else by_heart for one in asked]


def lived(day: Day, engine: Knowing, facts: int = 5) -> Night:
    with day:
        for said in list(TOLD)[:facts]:
            day.talk(said, "Oh.", route="memory")
    night = run_night(NightConfig(day.store, min_free=0), engine, SILENT)
    assert night is not None
    return night


def check(night: Night, id: str) -> Check:
    (found,) = (check for check in night.checks if check.id == id)
    return found


def test_what_the_memory_answers_already_is_learned_all_the_same(day: Day) -> None:
    engine = Knowing()
    night = lived(day, engine)
    assert night.accepted, night.reasons
    sets = {one.name: (one.kind, one.n, one.before, one.after) for one in night.sets}
    # A question may be without its memory where talk of the day is nearer: what is trained goes by ids.
    kind, n, before, after = sets[FACTS]
    assert (kind, n) == ("remembered", 10)
    assert before == after >= 0.8
    assert sets[ALONE] == ("personal", 10, 0.0, 1.0)
    assert check(night, "gate.personal").measured == pytest.approx(1 / 2**10)
    assert check(night, "gate.remembered").measured == pytest.approx(-0.213, abs=1e-3)
    first, second = engine.asked
    assert first == second  # the same questions, all in one go
    assert [bool(one.memories) for one in first] == [True] * 10 + [False] * 10
    assert [one.text for one in first[:10]] == [one.text for one in first[10:]]
    report = read_report(day.store)
    assert len({task.name for task in report.won}) == 10
    jsonschema.validate(document(report), read_json_object(ROOM / "nights.schema.json"))
    for file, schema in ((STATE_FILE, "night"), (BEFORE_FILE, "measured"), (AFTER_FILE, "measured")):
        found = read_json_object(folder_of(day.store, 1) / file)
        jsonschema.validate(found, read_json_object(ROOM / f"{schema}.schema.json"))
    assert "the same beside the memory, share right" in page(report, MADE)
    assert sets[UNASKED] == ("unasked", 40, 1.0, 1.0)


@pytest.mark.parametrize(
    ("engine", "failed"),
    [(Knowing(learns=False), "gate.personal"), (Knowing(learns=False, reads=False), "gate.remembered")],
    ids=["nothing learned", "the memory is read no more"],
)
def test_what_is_not_learned_or_spoils_the_memory_is_refused(day: Day, engine: Knowing, failed: str) -> None:
    night = lived(day, engine)
    assert night.accepted is False
    assert check(night, failed).failed
    lost = read_report(day.store).lost  # answers beside the memory, and not those without it
    (read,) = (one.before for one in night.sets if one.name == FACTS)
    assert [task.after for task in lost] == ["Nobody knows."] * (0 if engine.reads else round(10 * read))
    assert "Nobody knows." not in {task.before for task in lost}


@pytest.mark.parametrize(("tells", "refused"), [(2, False), (3, True)])
def test_what_is_remembered_is_not_told_unasked(day: Day, tells: int, refused: bool) -> None:
    """Two more of 40 surely are less than .15 (Tango's bound, by hand: .140 and .173)."""
    night = lived(day, Knowing(tells=tells))
    found = check(night, "gate.unasked")
    assert found.failed == refused == (not night.accepted)
    assert found.measured == pytest.approx(-0.173 if refused else -0.140, abs=1e-3)
    before, after = (read_measured(folder_of(day.store, 1) / file).sets[UNASKED] for file in BOTH)
    assert [e.prompt for e in before] == [e.prompt for e in after]
    assert {e.prompt for e in after} < set(measured())
    assert [e.score for e in after] == [0.0] * tells + [1.0] * (40 - tells)
    lost = [task for task in read_report(day.store).lost if task.name in measured()]
    assert [task.after for task in lost] == ["It is Mia."] * tells


def test_of_two_facts_nothing_is_sure(day: Day) -> None:
    night = lived(day, Knowing(learns=False, reads=False), 2)
    assert night.accepted, night.reasons
    assert {check(night, id).status for id in ("gate.personal", "gate.remembered")} == {"not judged"}


def test_a_night_that_an_earlier_version_began_is_judged_as_it_judged(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file of before has the facts beside the memory alone, as `personal`."""

    def of_old(path: Path) -> object:
        content = json.loads(path.read_text())
        if path.name == BEFORE_FILE:
            del content["sets"][ALONE], content["kinds"][ALONE]
            content["kinds"][FACTS] = "personal"
            path.write_text(json.dumps(content))
        return read_measured(path)

    monkeypatch.setattr("device_sim.night.cycle.read_measured", of_old)
    night = lived(day, Knowing())
    assert (folder_of(day.store, 1) / BEFORE_FILE).exists()
    assert check(night, "gate.personal").measured == 1  # nothing more is answered beside the memory
    assert check(night, "gate.remembered").status == "not judged"
