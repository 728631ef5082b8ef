"""`pt night` as a user has it, with a model that pretends."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.html import page
from device_sim.night.report import document, read_report
from personality_common.errors import ConfigError
from personality_common.evidence.provenance import Provenance
from personality_common.files.atomic import read_json_object
from personality_common.terminal.progress import SILENT

from .living import Day
from .pretending import Pretender

Pt = Callable[..., Any]
ROOM = Path(__file__).parents[3] / "device_sim" / "night"
MADE = Provenance("2026-11-29T10:00:00+00:00", "pt night report", "here", {"python": "3"})


@pytest.fixture
def pretends(monkeypatch: pytest.MonkeyPatch) -> Pretender:
    engine = Pretender()
    monkeypatch.setattr("device_sim.night.models.ModelEngine", lambda *_, **__: engine)
    monkeypatch.setattr("device_sim.companion.models.opening.gguf_file", Path)
    return engine


def tree(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path} {path.stat().st_mtime_ns}".encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def test_a_dry_run_touches_nothing_and_shows_no_text_unless_asked(
    day: Day, pt: Pt, pretends: Pretender
) -> None:
    day.talk("A secret of mine.", "Oh.", reward=-1.0)
    before = tree(day.store)
    done = pt("night", "run", day.store, "--dry-run")
    assert done.code == 0, done.err
    assert tree(day.store) == before
    assert "40  to train on" in done.out
    assert "1  left out: answer judged below zero" in done.out
    assert "I painted" not in done.out + done.err
    assert not pretends.trained
    told = pt("night", "run", day.store, "--dry-run", "--verbose")
    assert "I painted a" in told.out
    assert tree(day.store) == before


def test_a_night_and_its_report(day: Day, pt: Pt, pretends: Pretender, tmp_path: Path) -> None:
    done = pt("night", "run", day.store, "--min-free", 0)
    assert done.code == 0, done.err
    assert "night-0001: accepted" in done.out
    again = pt("night", "run", day.store, "--min-free", 0)
    assert (again.code, "nothing new to learn" in again.out) == (0, True)
    html, figures = tmp_path / "n.html", tmp_path / "n.json"
    told = pt("night", "report", day.store, "--html", html, "--json", figures)
    assert told.code == 0, told.err
    assert html.stat().st_mode & 0o077 == 0
    assert "I painted a" in html.read_text() or "Somebody lost" in html.read_text()
    assert "painted" not in figures.read_text() + told.out
    printed = json.loads(pt("night", "report", day.store, "--json", "-").out)
    assert printed == json.loads(figures.read_text())
    jsonschema.validate(printed, read_json_object(ROOM / "nights.schema.json"))


def test_lines_break_between_words(
    tmp_path: Path, pt: Pt, pretends: Pretender, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = Day(tmp_path / "few")
    day.talk("Nobody judged it.", "Oh.")
    none = pt("night", "run", day.store, "--min-free", 0)
    assert "nothing to learn yet" in none.out
    assert "last night" not in none.out
    day.talk("One and two.", "Oh.", edit="Ahoy!")
    from personality_common.terminal import console

    monkeypatch.setattr(console.output, "width", 60)
    done = pt("night", "run", day.store, "--min-free", 0)
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert max(map(len, lines)) <= 60
    start = next(i for i, line in enumerate(lines) if line.startswith("  too few examples"))
    reason = read_report(day.store).nights[0].reasons[0]
    assert " ".join(line.strip() for line in lines[start:]).startswith(reason)
    assert all(line.startswith("  ") for line in lines[start : start + 2])


def test_a_refused_night_is_no_failure(day: Day, pt: Pt, pretends: Pretender, tmp_path: Path) -> None:
    pretends.harm = 0.5
    hook = f"{sys.executable} -c \"open('{tmp_path}/told','w')\""
    done = pt("night", "run", day.store, "--min-free", 0, "--on-failure", hook)
    assert done.code == 0, done.err
    assert "refused" in done.out
    assert not (tmp_path / "told").exists()


def test_a_night_that_fails_is_told(day: Day, pt: Pt, pretends: Pretender, tmp_path: Path) -> None:
    hook = f"{sys.executable} -c \"import sys; open('{tmp_path}/told','w').write(sys.argv[-1])\""
    done = pt("night", "run", day.store, "--min-free", 1e5, "--on-failure", hook)
    assert done.code == 4
    assert "GB of the disk free" in (tmp_path / "told").read_text()


def test_a_damaged_night_is_an_error(day: Day, pt: Pt, pretends: Pretender) -> None:
    run_night(NightConfig(day.store, min_free=0), pretends, SILENT)
    (day.store / "nights" / "0001" / "state.json").write_text('{"schema": 1, "number": "one"}')
    for command in (("run", day.store, "--min-free", 0), ("report", day.store)):
        done = pt("night", *command)
        assert done.code == 3
        assert "state.json" in done.err
        assert len(done.err.strip().splitlines()) == 1


def test_a_state_is_of_its_schema(day: Day, pretends: Pretender) -> None:
    run_night(NightConfig(day.store, min_free=0), pretends, SILENT)
    folder = day.store / "nights"
    for name, schema in (("state", "night"), ("before", "measured"), ("after", "measured")):
        jsonschema.validate(
            read_json_object(folder / "0001" / f"{name}.json"),
            read_json_object(ROOM / f"{schema}.schema.json"),
        )
    jsonschema.validate(
        read_json_object(folder / "general.json"), read_json_object(ROOM / "general.schema.json")
    )
    assert "Ahoy" not in (folder / "0001" / "state.json").read_text()


def test_examples_are_gone_from_the_page_with_what_was_forgotten(day: Day, pretends: Pretender) -> None:
    night = run_night(NightConfig(day.store, min_free=0), pretends, SILENT)
    assert night is not None
    assert len(read_report(day.store).examples) == 15
    day.forget(night.split.train[0])
    found = read_report(day.store)
    assert found.examples == ()
    assert found.unclean == (night.version,)
    assert "Removed: something that this night saw was forgotten" in page(found, MADE)


def test_a_store_without_a_night(day: Day, pt: Pt) -> None:
    assert "no night yet" in pt("night", "report", day.store).out
    assert document(read_report(day.store))["nights"] == []
    assert "No night yet" in page(read_report(day.store), MADE)


def test_a_suite_that_is_none_is_said_before_anything_is_done(day: Day, pt: Pt, pretends: Pretender) -> None:
    done = pt("night", "run", day.store, "--min-free", 0, "--suite", day.store / "store.json")
    assert done.code == 3
    assert not (day.store / "nights").exists()


@pytest.mark.parametrize(
    "options",
    [{"budget_minutes": 0}, {"seed": -1}, {"threads": 0}, {"min_free": -1}, {"model": "http://x/v1"},
     {"resume": True, "dry_run": True}, {"user": ""}],
)  # fmt: skip
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--"):
        NightConfig(Path("store"), **options)
