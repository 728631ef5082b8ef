"""The morning after: each part of the companion is asked by itself, and nothing of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from device_sim.adapters.codec import ADAPTER_FILE
from device_sim.adapters.learned import LEARNED, active_file
from device_sim.companion.companion import Companion
from device_sim.companion.config import CompanionConfig
from device_sim.companion.models.llama import LlamaModel
from device_sim.companion.models.model import ChatModel
from device_sim.companion.models.opening import gguf_file
from device_sim.companion.opening import open_companion
from device_sim.night.engine import Engine, Prompted
from device_sim.night.general import ANSWER_TOKENS, answered, held_out
from device_sim.week.state import Arm, Asked, Day, Morning, Styled
from device_sim.week.user import User
from personality_common.registry.versions import VERSIONS_DIR
from personality_common.terminal.progress import Reporter

OFF_RECORD: Final = "#off-record"
"""What is said with this tag is not kept, and neither is its answer."""
GENERAL: Final = 40
"""Prompts of nobody's that perplexity is measured on."""


def measure_morning(
    config: CompanionConfig, engine: Engine, user: User, day: Day, reporter: Reporter
) -> Morning:
    """Ask every part by itself.

    Args:
        config: of the companion without an adapter.
    """
    assert day.night is not None
    files = adapters(config, day)
    with open_companion(replace(config, max_tokens=ANSWER_TOKENS), reporter) as opened:
        voice = LlamaModel(gguf_file(config.model), threads=config.threads, adapters=files)
        models = {name: voice.with_scales({name: 1.0}) for name in files}
        plain = voice.with_scales({})
        candidate, active = models.get("candidate"), models.get("active", plain)
        ways: dict[Arm, tuple[ChatModel, bool]] = {"neither": (plain, False), "memory": (plain, True)}
        if candidate is not None:
            ways |= {"adapter": (candidate, False), "both": (candidate, True)}
        if "active" in models:
            ways["served"] = (active, True)

        def ask(arms: Sequence[Arm], said: str) -> dict[str, str]:
            told: dict[str, str] = {arm: _answer(opened, *ways[arm], said) for arm in arms if arm in ways}
            if "active" not in models:
                told["served"] = told["memory"]
            return told

        count = len(user.facts) + len(user.kept())
        with reporter.stage(f"morning {day.number + 1}", count, "questions") as stage:
            asked = []
            for fact in user.facts:
                value = user.value(fact, day.number)
                for question in fact.ask:
                    answers = ask(("neither", "memory", "adapter", "both", "served"), question)
                    asked.append(Asked(fact.what, question, value, answers))
                stage.advance(1)
            styled = []
            for said in user.kept():
                styled.append(Styled(said, ask(("memory", "both", "served"), said)))
                stage.advance(1)
    return Morning(tuple(asked), tuple(styled), _nats(config.store, engine, files))


def adapters(config: CompanionConfig, day: Day) -> dict[str, Path]:
    """Files of tonight's candidate, and of the version in use, where there are such."""
    assert day.night is not None
    found = {}
    if day.night.version is not None:
        found["candidate"] = config.store / LEARNED / VERSIONS_DIR / day.night.version / ADAPTER_FILE
    if active := active_file(config.store, gguf_file(config.model)):
        found["active"] = active[1]
    return found


def _answer(opened: Companion, model: ChatModel, memory: bool, said: str) -> str:
    parts = replace(opened.parts, model=model, memory=opened.parts.memory if memory else None)
    companion = Companion(opened.log, parts, user=opened.user)
    return "".join(companion.answer(f"{said} {OFF_RECORD}")).strip()


def _nats(store: Path, engine: Engine, files: dict[str, Path]) -> dict[str, float]:
    """Mean nats per token of the model's own answers to prompts that are never trained."""

    def ask(said: Sequence[str]) -> list[str]:
        return engine.answers(None, [Prompted(one) for one in said], ANSWER_TOKENS)

    told = answered(store, engine.base, held_out(None, GENERAL), ask)
    ways = {"neither": None, "adapter": files.get("candidate"), "served": files.get("active")}
    found: dict[str, float] = {}
    for arm, file in ways.items():
        if arm == "neither" or file is not None:
            losses = engine.losses(file, [(Prompted(said), answer) for said, answer in told.items()])
            found[arm] = sum(losses) / len(losses)
    return {"served": found["neither"], **found}
