"""Distributions of a hand-made fleet, and its page."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import numpy as np
import pytest

import device_sim.fleet.figures as module
from device_sim.fleet.figures import WORST_SHOWN, figures, population
from device_sim.fleet.fleet import Fleet
from device_sim.fleet.html import report
from device_sim.fleet.lives import Lived, Traces
from device_sim.fleet.plan import Plan
from device_sim.fleet.proof import Proof
from device_sim.fleet.rendering import groups_table, nights_table, notes
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.evidence.provenance import Provenance

SCHEMA_FILE = Path(module.__file__).with_name("fleet.schema.json")
MIX = "3*profile+1*<b>:likes&more"


def lived(device: int, gain: float, **changes: Any) -> Lived:
    values: dict[str, Any] = {
        "device": device, "seed": device, "kind": device % 2, "head": "ab-cd", "reward": 1.0, "gain": gain,
        "oracle_gain": gain / 2 + 0.4 if device % 2 == 0 else None, "gains": (gain,), "kl": 0.1,
        "overlap": 0.8,
        "stopped": 0, "scaled": 0, "dropped": 0, "silent": 0,
    }  # fmt: skip
    return Lived(**(values | changes))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    # The second kind is no user that could be parsed; here it only has to be shown.
    for where in ("mix", "verdict"):
        monkeypatch.setattr(f"device_sim.fleet.{where}.parse_user", lambda text: text)

    def build(gains: list[float], nights: int = 2, **changes: dict[int, dict[str, Any]]) -> Any:
        plan = Plan(
            Path("/f"), Path("/b"), "", "data", "", None, len(gains), MIX,
            "posterior", NightsConfig(nights=nights), GRPOConfig(), 64,
        )  # fmt: skip
        devices = [lived(i, g, **changes.get("of", {}).get(i, {})) for i, g in enumerate(gains)]
        traces = Traces.empty(2, nights)
        traces.devices = [sum(d.kind == k for d in devices) for k in (0, 1)]
        for kind, count in enumerate(traces.devices):
            traces.sums["overlap"][kind] = [0.9 * count, 0.7 * count]
        encoder = SimpleNamespace(fingerprint="e" * 64, name="an <encoder>")
        vocabulary = SimpleNamespace(fingerprint="v" * 64)
        bundle = SimpleNamespace(run_fingerprint="r" * 64, vocabulary=vocabulary, encoder=encoder)
        return Fleet(plan, cast(Any, bundle), tuple(devices), traces, Proof((0, 3)), 2.0, len(gains) * nights)

    return build


def test_distributions_by_hand(make: Any) -> None:
    held = {0: {"dropped": 1}, 1: {"scaled": 1, "stopped": 1}, 3: {"silent": 2}}
    found = population(make([0.4, -0.2, 0.0, 0.6], of=held))
    everyone, first, second = found.groups
    assert [(g.name, g.devices) for g in found.groups] == [("all", 4), ("profile", 2), ("<b>:likes&more", 2)]
    assert everyone.gain == pytest.approx(0.2)
    assert everyone.gain_quantiles[3] == pytest.approx(0.2)  # the middle of 0.0 and 0.4
    assert everyone.below_zero == 0.25
    # Gains .4 and 0 of .6 and .4: the ratio of means, not the mean of ratios, which is 1/3.
    assert first.oracle_share == pytest.approx(0.4)
    assert everyone.oracle_share == pytest.approx(0.4)
    assert second.oracle_share is None
    assert everyone.held_back == 0.5
    assert (everyone.stopped, everyone.scaled, everyone.dropped, everyone.silent) == (
        1 / 8,
        1 / 8,
        1 / 8,
        2 / 8,
    )
    assert everyone.nights["overlap"] == pytest.approx([0.9, 0.7])
    assert (found.edges[0], found.edges[-1]) == (-0.2, 0.6)
    for group in found.groups:
        assert sum(group.histogram) == group.devices
    assert [one.device for one in found.worst] == [1]


def test_the_worst_are_few_and_nan_is_the_worst(make: Any, made: Provenance) -> None:
    gains = np.linspace(-1, 1, 6000).tolist()
    gains[4000] = float("nan")
    fleet = make(gains)
    found = population(fleet)
    assert len(found.worst) == WORST_SHOWN < 60
    assert [one.device for one in found.worst[:3]] == [4000, 0, 1]
    document = figures(fleet, found)
    jsonschema.validate(document, json.loads(SCHEMA_FILE.read_text()))
    assert "6,000 devices, 1 of them without a gain" in report(fleet, found, made)
    assert document["worst"][0]["gain"] is None
    assert document["worst"][1]["command"].startswith("pt simulate /b --data data --user profile --nights 2 ")


def test_the_page_escapes_and_loads_nothing(make: Any, made: Provenance) -> None:
    fleet = make([0.4, -0.2, 0.0, 0.6])
    page = report(fleet, population(fleet), made)
    assert "&lt;b&gt;:likes&amp;more" in page
    assert "<b>:likes" not in page
    assert "an <encoder>" not in page
    assert "://" not in page
    assert "src=" not in page
    assert page.count('aria-label="Gain of ') == 3
    assert "ended early" not in page  # no night did


@pytest.mark.parametrize("gains", [[0.5], [0.5, 0.5]])
def test_a_fleet_without_spread(make: Any, made: Provenance, gains: list[float]) -> None:
    fleet = make(gains, nights=1)
    found = population(fleet)
    assert "devices, 1 nights" in report(fleet, found, made)
    assert len(groups_table(found).rows) == len(nights_table(found).rows) == len(found.groups)
    assert list(notes(fleet, found))
    check = fleet.checks[0]
    assert (check.status, check.detail) == ("passed", "lived again alone: devices 0, 3")
