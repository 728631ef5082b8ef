"""`--repeats` and `--learner all`: lives beside that of the phone are those that a phone would have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from device_sim.simulate.figures import figures
from device_sim.simulate.rendering import learners_table, side_by_side
from device_sim.simulate.simulation import Simulation
from device_sim.users.nights import NightsConfig
from grpo.head import Head
from personality_common.errors import ConfigError
from personality_common.evidence.intervals import mean_interval

SCHEMA = Path(__file__).parents[3] / "device_sim" / "simulate" / "simulation.schema.json"


def same(one: Head, other: Head) -> bool:
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(one, other, strict=True))


def test_lives_beside_are_those_of_phones(run_small: Callable[..., Simulation]) -> None:
    found = run_small(learner="all", repeats=2)
    assert found.config.learners == ("posterior", "grpo")
    assert [(o.learner, o.seed) for o in found.others] == [("posterior", 1), ("grpo", 0), ("grpo", 1)]
    spend = NightsConfig(nights=2, interactions=8, group=4, seed=1)
    other, alone = found.others[0], run_small(learner="posterior", nights=spend).nights[-1]
    assert same(other.last.head, alone.delivery.head)
    assert alone.lived is not None
    assert other.last.rise == pytest.approx(alone.lived.rise, abs=1e-6)
    assert other.gate == alone.update.gate

    assert [(name, len(lives)) for name, lives, _ in side_by_side(found)] == [("posterior", 2), ("grpo", 2)]
    assert len(learners_table(found).rows) == 2
    document = figures(found)
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert [(life["learner"], life["seed"]) for life in document["lives"]] == [
        ("posterior", 1), ("grpo", 0), ("grpo", 1),
    ]  # fmt: skip
    # The verdict is over the lives of the phone's own learner.
    first = found.nights[-1].lived
    assert first is not None
    rises = torch.tensor([first.rise, found.others[0].last.rise], dtype=torch.float64)
    check = next(check for check in found.checks if check.id == "reward-rose")
    assert check.measured == pytest.approx(mean_interval(rises).low)
    assert "over 2 lives" in check.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": 0}, "--repeats must be 1 or more, got 0"),
        ({"repeats": 2, "feedback": Path("f")}, "--repeats and --learner all need --user"),
        ({"learner": "all", "feedback": Path("f")}, "--repeats and --learner all need --user"),
        ({"learner": "everything"}, "--learner must be one of posterior, grpo, all"),
        ({"repeats": 2, "objective": "one-hot"}, "--learner, --repeats: of learners"),
    ],
)
def test_what_does_not_go_together_is_refused(small: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**changes)
