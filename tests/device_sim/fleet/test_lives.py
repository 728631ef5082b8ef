"""Devices side by side against each of them alone, on a small world without bundles."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from device_sim.fleet import lives
from device_sim.fleet.lives import TRACES, Device, Lived, live_together, measured_nights
from device_sim.heads.shipped import head_fingerprint
from device_sim.simulate.drift import measure_drift
from device_sim.users.nights import Night, NightsConfig, Texts, live, oracle_share, remembering
from device_sim.users.users import make_user
from grpo.config import GRPOConfig
from grpo.head import Head
from grpo.learners import Learner, default_learner, make_learner
from grpo.posterior import at_most, likeliest
from grpo.reference import Reference

VOCABULARY, DIM, BASE = 325, 512, 24
NIGHTS = NightsConfig(nights=3, interactions=9, group=4)
KINDS = ("profile", "thumbs:answers=0.3", "drifting:drift_night=1", "contrary", "random")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def unit(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=-1)


def shipped_head() -> Head:
    return Head(unit(VOCABULARY, DIM, 1) * 3, torch.zeros(VOCABULARY))


def learner_of(config: GRPOConfig) -> Learner:
    return make_learner(default_learner(config), Reference(unit(80, DIM, 7), shipped_head(), config))


def device(number: int, seed: int, kinds: tuple[str, ...] = KINDS) -> Device:
    texts = Texts(unit(60, DIM, 100 + seed), unit(60, BASE, 200 + seed))
    kind = number % len(kinds)
    training = texts[slice(0, 40)]
    user = make_user(kinds[kind], unit(VOCABULARY, BASE, 2), training.embeddings, seed)
    return Device(number, seed, kind, user, training, texts[slice(40, 60)])


def alone(one: Device, config: GRPOConfig, nights: NightsConfig) -> list[Night]:
    nights = dataclasses.replace(nights, seed=one.seed)
    learner = remembering(learner_of(config))
    return live(one.user, one.training, one.held_out, shipped_head(), config, nights, learner)


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"replay": 2}),
    ({"optimizer": "adam", "learning_rate": 0.003}, {}),
    ({"policy": "bernoulli", "learning_rate": 900.0}, {}),
    ({"kl_stop": 0.002}, {}),
    ({"overlap_budget": None, "kl_budget": 0.01}, {}),
    ({"temperature": 0.3}, {}),
]


@pytest.mark.parametrize(("grpo", "spend"), CASES, ids=str)
def test_a_device_of_a_fleet_has_the_head_that_it_has_alone(
    grpo: dict[str, Any], spend: dict[str, Any]
) -> None:
    config, nights = dataclasses.replace(GRPOConfig(gate=None), **grpo), dataclasses.replace(NIGHTS, **spend)
    devices = [device(i, 10 + i) for i in range(7)]
    lived, traces = live_together(devices, learner_of(config), nights, len(KINDS))
    expected = [alone(one, config, nights) for one in devices]
    assert [one.head for one in lived] == [head_fingerprint(nights[-1].head) for nights in expected]
    assert len({one.head for one in lived}) == 7
    for one, records in zip(lived, expected, strict=True):
        require_figures(one, records, devices[one.device], config)
    assert traces.devices == [2, 2, 1, 1, 1]


def require_figures(one: Lived, records: list[Night], of: Device, config: GRPOConfig) -> None:
    """Those of `pt simulate`, to float32's rounding of rewards near 1."""
    last = records[-1]
    assert one.gain == pytest.approx(last.rise, abs=1e-5)
    assert one.reward == pytest.approx(last.reward, abs=1e-5)
    assert one.oracle_gain is not None
    assert oracle_share(one.gain, one.oracle_gain) == pytest.approx(last.oracle_share, abs=1e-5)
    assert len(one.gains) == len(measured_nights(len(records))) == 1
    drift = measure_drift(of.held_out.latents, last.head, shipped_head(), config)
    assert (one.kl, one.overlap) == (pytest.approx(drift.kl), pytest.approx(drift.overlap))


def test_it_does_not_matter_who_else_is_there() -> None:
    config = GRPOConfig(gate=None)
    several = [device(i, 10 + i) for i in range(6)]
    together, _ = live_together(several, learner_of(config), NIGHTS, len(KINDS))
    turned, _ = live_together(several[::-1], learner_of(config), NIGHTS, len(KINDS))
    some, _ = live_together([several[4], several[1]], learner_of(config), NIGHTS, len(KINDS))
    assert [one.head for one in turned[::-1]] == [one.head for one in together]
    assert [one.head for one in some] == [together[4].head, together[1].head]


def test_a_bound_spares_factorizations_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the suspects; see `grpo.posterior.at_most`."""
    nights = NightsConfig(nights=4, interactions=10, group=8)

    def lived(most: Callable[..., float]) -> tuple[list[Lived], int]:
        asked = 0

        def counted(*arguments: Any) -> Any:
            nonlocal asked
            asked += 1
            return likeliest(*arguments)

        monkeypatch.setattr("grpo.learner.at_most", most)
        monkeypatch.setattr("grpo.learner.likeliest", counted)
        devices = [device(i, 10 + i) for i in range(len(KINDS))]
        found, _ = live_together(devices, learner_of(GRPOConfig(gate=None)), nights, len(KINDS))
        return found, asked

    (ours, few), (theirs, many) = lived(at_most), lived(lambda *_: math.inf)
    assert ours == theirs
    # All nights' evidence every night, and that of the suspects but for the first.
    assert few < many == len(KINDS) * (2 * nights.nights - 1)


def test_one_s_own_user_without_an_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_fleet_user")
    module.likes = lambda texts, actions, night, generator: (actions < 40).float().mean(-1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_fleet_user", module)
    devices = [device(i, 10 + i, ("own_fleet_user:likes",)) for i in range(2)]
    lived, traces = live_together(devices, learner_of(GRPOConfig(gate=None)), NIGHTS, 1)
    assert all(one.oracle_gain is None for one in lived)
    assert all(one.gain > 0 for one in lived)
    assert set(traces.sums) == set(TRACES)


def test_gains_by_night_are_of_the_same_texts_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first GLANCE, after the last night too, when all are measured on besides."""
    monkeypatch.setattr(lives, "GLANCE", 5)
    monkeypatch.setattr(lives, "WEEK", 1)
    one = device(1, 11)
    few = dataclasses.replace(one, held_out=one.held_out[:5])
    config = GRPOConfig(gate=None)
    (whole,), _ = live_together([one], learner_of(config), NIGHTS, len(KINDS))
    (part,), _ = live_together([few], learner_of(config), NIGHTS, len(KINDS))
    assert whole.gains == pytest.approx(part.gains, abs=1e-6)
    assert part.gains[-1] == part.gain
    assert whole.gains[-1] != pytest.approx(whole.gain, abs=1e-3)


@pytest.mark.parametrize(
    ("nights", "expected"), [(1, (0,)), (7, (6,)), (8, (6, 7)), (30, (6, 13, 20, 27, 29))]
)
def test_weeks(nights: int, expected: tuple[int, ...]) -> None:
    assert measured_nights(nights) == expected
