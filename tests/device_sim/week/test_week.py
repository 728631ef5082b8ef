"""A week of two days with a tiny model: PyTorch trains it, llama.cpp answers, and kills lose nothing."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import jsonschema
import pytest
from hash_encoder import HashEncoder

from device_sim.capability.rules import Rules
from device_sim.capability.suite import Suite, Task
from device_sim.companion.events import Feedback, Turn
from device_sim.companion.log import read_events
from device_sim.companion.models.llama import LlamaModel
from device_sim.companion.models.model import Piece, Sampling
from device_sim.night.facts import fact
from device_sim.night.models import ModelEngine
from device_sim.night.state import read_nights
from device_sim.week import living, morning
from device_sim.week.config import WeekConfig
from device_sim.week.figures import document
from device_sim.week.living import live_week
from device_sim.week.morning import measure_morning
from device_sim.week.state import Week, open_week, write_week
from device_sim.week.user import User
from personality_common.errors import ConfigError, DataError
from personality_common.files.atomic import read_json_object
from personality_common.terminal.progress import SILENT

pytest.importorskip("peft", reason="the extra night is not installed")
pytest.importorskip("xllamacpp", reason="the extra companion is not installed")

SCHEMA = Path(living.__file__).with_name("week.schema.json")


class Killed(BaseException):
    """What no code expects."""


def few_tasks(name: str) -> list[Suite]:
    def tasks(domain: str) -> tuple[Task, ...]:
        return tuple(Task(f"{domain}.{i}", f"task {i}", Rules(exact=("right",)), 4) for i in range(2))

    return [Suite(name, tasks("facts")), Suite("probes", (*tasks("style"), *tasks("safety")))]


@pytest.fixture(scope="module")
def small() -> Iterator[pytest.MonkeyPatch]:
    """Everything real, and as little of it as there can be; vectors are of a text's hash."""
    patch = pytest.MonkeyPatch()
    opening = "device_sim.companion.opening"
    patch.setattr(f"{opening}._load_encoder", HashEncoder)
    patch.setattr(f"{opening}.routing", lambda encoder, reporter: routed)
    patch.setattr(ModelEngine, "embed", lambda _, texts: HashEncoder().encode(list(texts)))
    patch.setattr("device_sim.night.desk.suites", few_tasks)
    patch.setattr("device_sim.night.desk.GENERAL", 2)
    patch.setattr("device_sim.night.desk.SHORT_GENERAL", 2)
    patch.setattr(morning, "GENERAL", 2)
    for place in ("night.desk", "night.measuring", "week.morning"):
        patch.setattr(f"device_sim.{place}.ANSWER_TOKENS", 6)
    patch.setattr(LlamaModel, "stream", ended_after_six_tokens)
    yield patch
    patch.undo()


stream = LlamaModel.stream


def ended_after_six_tokens(self: LlamaModel, messages: Any, sampling: Sampling) -> Iterator[Piece]:
    """Random weights never say that they are done, and what is broken off no night learns."""
    for piece in stream(self, messages, replace(sampling, max_tokens=min(6, sampling.max_tokens))):
        yield replace(piece, end=piece.end and "done")


def routed(text: str) -> Any:
    label = "memory" if fact(text) else "adapter"
    return Some(label=label, scores={label: 1.0})


@pytest.fixture(scope="module")
def config(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> WeekConfig:
    out = tmp_path_factory.mktemp("week") / "out"
    return WeekConfig(out, days=2, turns=8, model=str(tiny_llama), budget_minutes=1e-4)  # an epoch


@pytest.fixture(scope="module")
def week(config: WeekConfig, small: pytest.MonkeyPatch) -> Week:
    """Lived with a kill in the first day's talk, one in a night, and one in each morning."""
    calls, write, measure = itertools.count(), write_week, measure_morning
    answer, mornings, asked = ModelEngine.answers, itertools.count(), itertools.count()

    def write_and_die(out: Path, week: Week) -> None:
        write(out, week)
        if next(calls) == 5:
            raise Killed

    def answer_and_die(self: ModelEngine, *arguments: Any) -> list[str]:
        if next(asked) == 1:
            raise Killed
        return answer(self, *arguments)

    def measure_and_die(*arguments: Any) -> Any:
        if next(mornings) % 2 == 0:
            raise Killed
        return measure(*arguments)

    small.setattr(living, "write_week", write_and_die)
    small.setattr(living, "measure_morning", measure_and_die)
    small.setattr(ModelEngine, "answers", answer_and_die)
    engine, kills = ModelEngine(Path(config.model)), 0
    while True:
        try:
            found = live_week(config, engine, SILENT)
            break
        except Killed:
            kills += 1
    assert kills == 4
    return found


def test_what_was_said_is_in_the_log_once_and_judged(week: Week, config: WeekConfig) -> None:
    user = User(0, 2, 8)
    planned = [m.said for day in (1, 2) for m in user.day(day)]
    assert [e.said for day in week.days for e in day.exchanges] == planned
    events = list(read_events(config.out / "companion" / "events"))
    turns = [e.body for e in events if isinstance(e.body, Turn)]
    # One message was said twice, since the kill came between the log and the week.
    said = Counter(turn.text for turn in turns if turn.role == "user")
    assert sum(said.values()) - len(planned) in (0, 1)
    assert set(said) == set(planned)
    edits = {e.body.turn: e.body.text for e in events if isinstance(e.body, Feedback) and e.body.text}
    exchanges = [e for day in week.days for e in day.exchanges]
    assert {e.turn: e.edit for e in exchanges if e.edit} == edits
    assert len(edits) >= 3
    thumbs = {
        e.body.turn: e.body.reward for e in events if isinstance(e.body, Feedback) and e.body.how == "thumbs"
    }
    assert {e.turn: e.thumbs for e in exchanges if e.thumbs} == thumbs


def test_the_questions_of_the_mornings_are_in_no_file(week: Week, config: WeekConfig) -> None:
    kept = b"".join(p.read_bytes() for p in (config.out / "companion").rglob("*") if p.is_file())
    for said in User(0, 2, 8).kept():
        assert said.encode() not in kept


def test_a_night_a_day_and_every_part_is_asked(week: Week, config: WeekConfig) -> None:
    nights = read_nights(config.out / "companion")
    assert [night.number for night in nights] == [1, 2]
    assert [day.night.number for day in week.days if day.night] == [1, 2]
    one, two = week.days
    assert one.night is not None
    assert one.night.outcome == ("accepted" if nights[0].accepted else "refused")
    assert nights[0].training is not None
    assert one.morning is not None
    assert set(one.morning.asked[0].answers) == {"neither", "memory", "adapter", "both", "served"}
    assert set(one.morning.styled[0].answers) == {"memory", "both", "served"}
    # The adapter says something else than the base: it is on where it is said to be; so is the memory.
    for arm, other in (("neither", "adapter"), ("neither", "memory"), ("memory", "both")):
        assert any(a.answers[arm] != a.answers[other] for a in one.morning.asked), (arm, other)
    served = "both" if nights[0].accepted else "memory"
    assert all(a.answers["served"] == a.answers[served] for a in one.morning.asked)
    assert one.morning.nats["neither"] != one.morning.nats["adapter"]
    assert len([item for item in nights[0].split.train if "." in item]) == 20  # four wordings of five facts
    # The second day has two things to talk of, and its night waits: there is no candidate to ask.
    assert two.night is not None
    assert two.night.outcome == "too little"
    assert two.morning is not None
    assert set(two.morning.asked[0].answers) == {"neither", "memory", "served"}
    assert one.morning.asked[0].answers["neither"] == two.morning.asked[0].answers["neither"]


def test_the_document_is_of_its_schema(week: Week, config: WeekConfig) -> None:
    schema = read_json_object(SCHEMA)
    for found in (document(week), read_json_object(config.out / "week.json")):
        jsonschema.validate(json.loads(json.dumps(found)), schema)
    assert open_week(config) == week


def test_the_command_reads_a_week_that_was_lived(
    week: Week, config: WeekConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from personality_common import cli
    from personality_common.terminal import console

    monkeypatch.setattr(cli, "end_on_signals", lambda: None)
    monkeypatch.setattr(console.output, "width", 80)

    def pt(*words: object) -> tuple[object, str, str]:
        capsys.readouterr()
        given = ["simulate", "--companion", "--out", config.out, "--days", 2, "--turns", 8,
                 "--model", config.model, *words]  # fmt: skip
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in given])
        return end.value.code or 0, *capsys.readouterr()

    code, out, err = pt()
    assert code == 0, err
    assert "Asked the next day" in out
    tables, _, _ = out.partition("Asked the next day")
    assert max(map(len, tables.splitlines())) <= 80
    page = (config.out / "report.html").read_text()
    assert "Day 2" in page
    assert User(0, 2, 8).facts[0].value in page
    assert (config.out / "report.html").stat().st_mode & 0o077 == 0
    code, out, _ = pt("--json", "-")
    jsonschema.validate(json.loads(out), read_json_object(SCHEMA))
    code, _, err = pt("--seed", 1)
    assert (code, "holds a week of" in err, len(err.strip().splitlines())) == (2, True, 1)
    code, _, err = pt("--nights", 3)
    assert (code, "No such option" in err) == (2, True)


def test_what_is_no_week_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--out must be a new folder or a week"):
        open_week(WeekConfig(tmp_path))
    (tmp_path / "week.json").write_text('{"schema": 2}')
    with pytest.raises(DataError, match="must be of schema 1"):
        open_week(WeekConfig(tmp_path))


@pytest.mark.parametrize(
    "options",
    [{"days": 1}, {"days": 15}, {"turns": 7}, {"turns": 41}, {"seed": -1}, {"budget_minutes": 0},
     {"threads": 0}, {"model": "http://x/v1"}],
)  # fmt: skip
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--"):
        WeekConfig(**options)
