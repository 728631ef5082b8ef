"""What a night costs a phone, counted by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from device_sim.simulate.lives import NightRecord
from device_sim.simulate.phone_cost import (
    NightCost,
    dearest,
    delivering,
    head_bytes,
    learning,
    state_bytes,
    told,
)
from personality_common.bundle.manifest import PackageEntry, read_manifest


def night(
    *, version: str | None = "h1", groups: int = 50, candidates: int = 200, steps: int = 0
) -> NightRecord:
    metrics = SimpleNamespace(groups=groups, candidates=candidates, steps=steps)
    found = SimpleNamespace(update=SimpleNamespace(night=metrics), delivery=SimpleNamespace(version=version))
    return cast(NightRecord, found)


def test_bytes_of_the_head_and_of_what_a_learner_keeps() -> None:
    assert head_bytes(4) == 4 * (325 * 512 + 325) == 666_900
    assert state_bytes("posterior") == 2 * 8 * 359 * 359
    assert state_bytes("grpo") == state_bytes("posterior") + 666_900


@pytest.mark.parametrize(
    ("route", "part", "written", "compilations"),
    [
        ("patch", "model", lambda e: 666_900 + 666_900 + e.bytes, 1),
        ("state", "stateful", lambda e: 666_900, 0),
        ("update-task", "head", lambda e: 666_900 + 2 * e.bytes, 0),  # 100 texts are two tasks of 64
    ],
)
def test_by_route(openai_bundle: Any, route: str, part: str, written: Any, compilations: int) -> None:
    entry: PackageEntry = read_manifest(openai_bundle).packages[part]
    assert delivering(route, entry, night(groups=100)) == (written(entry), compilations)
    assert delivering(route, entry, night(version=None)) == (0, 0)
    half = replace(entry, tensors=tuple(replace(t, dtype="float16", size=t.size // 2) for t in entry.tensors))
    if route == "patch":
        assert delivering(route, half, night()) == (written(entry) - 333_450, 1)


def test_arithmetic_of_a_night() -> None:
    """50 texts, 200 candidates, 1024 texts of the sample."""
    rest = 50 * 512 * (325 + 32) + 200 * 359**2 + 1024 * 325 * (512 + 16) + 4 * (325**3 // 6 + 325**2)
    rest += 2 * (32**3 // 6 + 32**2 * 327 + 32 * 327**2)
    assert learning("posterior", night(), 1024, betting=False) == rest
    betting = 326**3 // 2 + 3 * 200 * 326**2
    assert learning("posterior", night(), 1024, betting=True) == rest + betting
    gradients = 2 * 50 * 512 * 325 + 50 * 50 * 512 + 12 * (50 * 50 * 325 + 200 * 8 * 325)
    assert learning("grpo", night(steps=12), 1024, betting=False) == rest + gradients


def test_what_is_said() -> None:
    quiet, moved = NightCost(5_000, 1_710_864, 0), NightCost(None, 27_000_000, 1)
    assert dearest([quiet, moved, quiet]) == moved
    assert told(quiet) == "at most 5,000 multiply-adds, 1.7 MB written, 0 compilations"
    assert told(moved) == "27.0 MB written, 1 compilation"
