"""What must hold of each kind of user, on fleets small enough to count; and that it decides the exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sim.fleet.fleet import Fleet
from device_sim.fleet.lives import Lived, Traces
from device_sim.fleet.plan import Plan
from device_sim.fleet.proof import Proof
from device_sim.fleet.verdict import kind_checks
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common import cli


def fleet_of(user: str, gains: list[float], beyond: int = 0) -> Fleet:
    """Devices with these gains, the first `beyond` of them beyond the budgets."""
    plan = Plan(
        Path("/f"), Path("/b"), "", "data", "", None, len(gains), user, "posterior", NightsConfig(nights=1),
        GRPOConfig(), 64,
    )  # fmt: skip
    lived = tuple(
        Lived(
            device=i, seed=i, kind=i % len(plan.kinds), head="ab", reward=1.0, gain=gain, oracle_gain=0.5,
            gains=(gain,), kl=0.1, overlap=0.8, stopped=0, scaled=0, dropped=0, silent=0, within=i >= beyond,
        )
        for i, gain in enumerate(gains)
    )  # fmt: skip
    traces = Traces.empty(len(plan.kinds), 1)
    traces.devices = [sum(one.kind == kind for one in lived) for kind in range(len(plan.kinds))]
    named = SimpleNamespace(fingerprint="e" * 64, name="encoder")
    bundle: Any = SimpleNamespace(run_fingerprint="r" * 64, vocabulary=named, encoder=named)
    return Fleet(plan, bundle, lived, traces, Proof((0,)), 1.0, len(gains))


def statuses(fleet: Fleet) -> dict[str, str]:
    return {check.id: check.status for check in kind_checks(fleet.plan, fleet.lived)}


@pytest.mark.parametrize(
    ("user", "gains", "gain", "worse"),
    [
        ("profile", [0.2, 0.3, 0.25, 0.2], "passed", "passed"),
        ("profile", [0.3, -0.2, 0.1, 0.0], "failed", "failed"),
        ("profile", [0.0] * 4, "not judged", "passed"),  # no gate is open yet
        ("profile", [0.4], "not judged", "passed"),  # one device has no interval
        ("profile", [0.3] * 19 + [-0.1], "passed", "passed"),  # one in twenty is as many as may be
        ("profile", [0.3] * 18 + [-0.1] * 2, "passed", "failed"),
        ("random", [0.0] * 20, "passed", "passed"),
        ("random", [0.0] * 19 + [-0.1], "passed", "passed"),
        ("random", [-0.12] * 20, "failed", "failed"),
        ("random", [0.0] * 18 + [-0.01] * 2, "passed", "failed"),
        ("mood", [-0.02] * 20, "failed", "failed"),
        ("heavy", [0.4] * 10 + [0.0] * 10, "passed", "passed"),
    ],
)
def test_each_kind_is_judged_by_its_gain_and_by_those_worse_off(
    user: str, gains: list[float], gain: str, worse: str
) -> None:
    assert statuses(fleet_of(user, gains)) == {"gain.0": gain, "worse.0": worse, "budgets.0": "passed"}


def test_one_device_in_a_hundred_may_be_beyond_the_budgets() -> None:
    assert statuses(fleet_of("random", [0.0] * 100, beyond=1))["budgets.0"] == "passed"
    assert statuses(fleet_of("random", [0.0] * 100, beyond=2))["budgets.0"] == "failed"


def test_kinds_are_judged_apart() -> None:
    """Harm to one kind does not hide behind the gains of the other."""
    found = statuses(fleet_of("1*profile+1*random", [0.5, -0.1] * 10))
    assert [found[f"{line}.0"] for line in ("gain", "worse")] == ["passed"] * 2
    assert [found[f"{line}.1"] for line in ("gain", "worse")] == ["failed"] * 2


@pytest.mark.parametrize(("gains", "code"), [([0.0] * 20, 0), ([-0.12] * 20, 1)])
def test_the_exit_code_is_1_when_random_devices_are_worse(
    gains: list[float], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fleet = fleet_of("random", gains)
    monkeypatch.setattr("device_sim.fleet.fleet.simulate_fleet", lambda *_: fleet)
    arguments = ["pt", "fleet", str(tmp_path), "--data", "texts", "--user", "random", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr().out
    assert int(stop.value.code or 0) == code, printed
    assert ("✗" in printed) == bool(code)
