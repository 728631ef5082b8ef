"""A night with a real model, the smallest there is: PyTorch trains it, llama.cpp answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_sim.adapters.learned import active_file, open_adapters
from device_sim.capability.suite import Suite
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.engine import Prompted
from device_sim.night.models import ModelEngine
from device_sim.night.report import read_report
from personality_common.terminal.progress import SILENT

from .living import Day, embed
from .pretending import small_suites

pytest.importorskip("peft", reason="the extra night is not installed")
pytest.importorskip("xllamacpp", reason="the extra companion is not installed")


def few_tasks(name: str) -> list[Suite]:
    return [Suite(name, suite.tasks[::30]) for suite in small_suites(name)]


def test_a_night_of_a_tiny_llama(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sim.night.desk.suites", few_tasks)
    monkeypatch.setattr("device_sim.night.desk.GENERAL", 4)
    monkeypatch.setattr("device_sim.night.measuring.ANSWER_TOKENS", 8)
    monkeypatch.setattr("device_sim.night.desk.ANSWER_TOKENS", 8)
    monkeypatch.setattr(ModelEngine, "embed", lambda _, texts: embed(texts))
    day = Day(tmp_path / "store")
    with day:
        for i in range(20):
            day.talk(f"word{i} and thing{i}", "oh", edit="ahoy")
    engine = ModelEngine(tiny_llama)
    night = run_night(NightConfig(day.store, model=str(tiny_llama), min_free=0), engine, SILENT)
    assert night is not None
    assert night.training is not None
    assert night.training.epochs[-1].validation_loss is not None
    target = night.sets[0]
    assert (target.kind, target.n) == ("target", 8)
    # "ahoy" after a prompt of any kind is learned in a few steps, whatever else is lost.
    assert target.gain > 1
    registry = open_adapters(day.store)
    assert registry.load(night.version or "").base_sha256 == engine.base
    if night.accepted:
        assert active_file(day.store, tiny_llama) is not None
    else:
        assert active_file(day.store, tiny_llama) is None
    assert len(read_report(day.store).examples) == 8
    # The base's answers are kept by the engine, and are never those of an adapter.
    file = registry.path / "versions" / (night.version or "") / registry.codec.itself
    prompts = [Prompted(f"word{i} and thing{i}") for i in range(12)]
    before, after = (engine.answers(used, prompts, 4) for used in (None, file))
    assert before == ModelEngine(tiny_llama).answers(None, prompts, 4)
    assert after != before


def test_what_is_trained_is_asked_as_by_day(tiny_llama: Path) -> None:
    engine = ModelEngine(tiny_llama)
    asked, memories = "What is my cat called?", ("My cat is called Mia.", "I like tea.")
    near, far, alone = engine._examples(
        [
            (Prompted(asked, memories, 0.9), "Mia."),
            (Prompted(asked, memories, 0.1), "Mia."),
            (Prompted(asked), "Mia."),
        ]
    )
    block = "<memory>\n- My cat is called Mia.\n- I like tea.\n</memory>"
    assert [m.role for m in near.messages] == ["system", "user", "assistant"]
    assert near.messages[1].text.startswith(block)
    assert asked in near.messages[1].text
    assert block in far.messages[0].text
    assert far.messages[1].text == alone.messages[1].text == asked
    assert "memory" not in alone.messages[0].text
    assert {e.messages[2].text for e in (near, far, alone)} == {"Mia."}
