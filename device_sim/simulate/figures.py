"""A simulation as files: figures for machines, and the log of what the user said."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from device_sim.heads.shipped import head_fingerprint, shipped_head
from device_sim.simulate.lives import NightRecord, OtherLife, Said
from device_sim.simulate.phone_cost import NightCost, night_costs
from device_sim.simulate.simulation import Simulation
from grpo.policies import PADDING
from personality_common.evidence.claims import finite, to_json
from personality_common.files.atomic import atomic_writer

SCHEMA: Final = 4
"""Of `simulation.json`, after `simulation.schema.json`: greater when a key goes or means something else."""
FEEDBACK_FILE: Final = "feedback.jsonl"


def figures(simulation: Simulation) -> dict[str, Any]:
    """Everything that can be plotted or asserted on, without user text; metrics are those of `grpo`."""
    config = simulation.config
    document = {
        "schema": SCHEMA,
        **to_json(simulation.checks),
        "settings": {
            "user": config.user,
            "feedback": config.feedback and str(config.feedback),
            "rewards": config.rewards,
            "route": config.route,
            "runtime": config.runtime,
            "objective": config.objective,
            "learners": list(config.learners) if config.objective == "learner" else [],
            "repeats": config.repeats,
            **asdict(config.nights),
            "grpo": asdict(config.grpo),
        },
        "bundle": {
            "run_fingerprint": simulation.bundle.run_fingerprint,
            "vocabulary_fingerprint": simulation.bundle.vocabulary.fingerprint,
            "encoder_fingerprint": simulation.bundle.encoder.fingerprint,
        },
        "measured_texts": simulation.measured,
        "heads": {
            "shipped": head_fingerprint(shipped_head(simulation.bundle)),
            "last": head_fingerprint(simulation.nights[-1].delivery.head),
        },
        "nights": [
            _night(i, night, cost)
            for i, (night, cost) in enumerate(zip(simulation.nights, night_costs(simulation), strict=True))
        ],
        "lives": [_life(other) for other in simulation.others],
        "tokens": [asdict(shift) for shift in simulation.shifts],
    }
    return dict(finite(document))


def _life(other: OtherLife) -> dict[str, Any]:
    last = other.last
    names = ("rise", "low", "high", "oracle_share", "overlap")
    figures = {name: getattr(last, name) for name in names}
    return {"learner": other.learner, "seed": other.seed, **figures, "gate": other.gate._asdict()}


def _night(index: int, night: NightRecord, cost: NightCost) -> dict[str, Any]:
    lived = night.lived
    return {
        "night": index,
        "held_out": lived
        and {name: getattr(lived, name) for name in ("reward", "rise", "low", "high", "oracle_share")},
        "training": lived and {"reward": lived.training_reward, "rise": night.training_rise},
        "drift": asdict(night.drift),
        "metrics": asdict(night.update.night),
        "steps": [asdict(step) for step in night.update.steps],
        "gate": night.update.gate and night.update.gate._asdict(),
        "reference": night.update.spent and night.update.spent._asdict(),
        "reasons": list(night.update.reasons),
        "routes": [asdict(check) for check in night.delivery.checks],
        "frozen": {route: asdict(found) for route, found in night.delivery.integrity.items()},
        "version": night.delivery.version,
        "activated": night.delivery.activated,
        "phone": asdict(cost),
    }


def write_feedback_log(path: Path, simulation: Simulation) -> None:
    """One line per interaction: text (or its SHA-256) and candidates with reward and logp.

    Texts are there only with `keep_texts`.

    With texts it is a feedback file, which `pt simulate --feedback` and `pt grpo` read.
    """
    tokens = simulation.bundle.vocabulary.tokens
    with atomic_writer(path, private=True) as file:
        for night, day in enumerate(simulation.days):
            for row, text in enumerate(day.texts):
                document = {
                    "id": f"night-{night}-{row}",
                    **_text(text, simulation.config.keep_texts),
                    "candidates": _candidates(day, row, tokens),
                }
                file.write(json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _text(text: str, keep: bool) -> dict[str, str]:
    if not text:
        return {}
    return {"text": text} if keep else {"text_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _candidates(day: Said, row: int, tokens: tuple[str, ...]) -> list[dict[str, Any]]:
    groups = day.groups
    ((_, rewards),) = groups.rewards.items()
    found = []
    for column, action in enumerate(groups.actions[row].tolist()):
        drawn = [tokens[i] for i in action if i != PADDING]
        if not drawn:
            continue
        reward = float(rewards[row, column])
        candidate: dict[str, Any] = {"tokens": drawn, "reward": None if math.isnan(reward) else reward}
        if groups.behaviour is not None and bool(groups.behaviour[row, column].isfinite()):
            candidate["logp"] = float(groups.behaviour[row, column])
        found.append(candidate)
    return found
