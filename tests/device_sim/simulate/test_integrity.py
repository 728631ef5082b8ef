"""Comparison of packages, on folders small enough to count by hand; and the verdict's judgement."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from device_sim.simulate.drift import Drift
from device_sim.simulate.integrity import compare_packages
from device_sim.simulate.verdict import drift_within, head_changed, reward_rose
from grpo.config import GRPOConfig
from grpo.gate import GateReading
from grpo.head import Head
from grpo.reference import Spent
from personality_common.bundle.stored import StoredTensor


def place(name: str, offset: int, data: bytes) -> StoredTensor:
    digest = hashlib.sha256(b"float32\x00%d\x00" % (len(data) // 4) + data).hexdigest()
    shape = (len(data) // 4,)
    return StoredTensor(name, name, "w.bin", offset, len(data), None, shape, "float32", True, digest)


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, Path, tuple[StoredTensor, ...]]:
    """Two equal ones: 4 bytes, the frozen 8, 4 bytes, weight 8, bias 4, 2 bytes; and a file of 3 bytes."""
    content = bytes(range(30))
    for name in ("shipped", "updated"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(content)
        (tmp_path / name / "m").write_bytes(b"abc")
    places = (
        place("encoder.0.ffn_in.weight", 4, content[4:12]),
        place("projection.weight", 16, content[16:24]),
        place("output_bias", 24, content[24:28]),
    )
    return tmp_path / "shipped", tmp_path / "updated", places


def spoil(package: Path, offset: int) -> None:
    data = bytearray((package / "w.bin").read_bytes())
    data[offset] ^= 128
    (package / "w.bin").write_bytes(data)


def test_equal_packages(packages: Any) -> None:
    found = compare_packages(*packages)
    assert (found.frozen, found.frozen_bytes, found.other_bytes, found.changed_bytes) == (1, 8, 21, 0)
    assert found.tensors_identical
    assert found.bytes_identical


@pytest.mark.parametrize("offset", range(30))
def test_every_byte_counts_where_it_is(packages: Any, offset: int) -> None:
    spoil(packages[1], offset)
    found = compare_packages(*packages)
    assert found.changed_bytes == (0 if 16 <= offset < 28 else 1)
    assert found.changed_tensors == (("encoder.0.ffn_in.weight",) if 4 <= offset < 12 else ())


def test_both_packages_spoilt_alike(packages: Any) -> None:
    """The fingerprint is of the time of the export."""
    for package in packages[:2]:
        spoil(package, 5)
    found = compare_packages(*packages)
    assert (found.tensors_identical, found.bytes_identical) == (False, True)


def test_files_missing_added_and_cut(packages: Any) -> None:
    _, updated, _ = packages
    (updated / "m").unlink()
    (updated / "new").write_bytes(b"")
    (updated / "w.bin").write_bytes((updated / "w.bin").read_bytes()[:20])
    found = compare_packages(*packages)
    assert found.changed_bytes == 3 + 1 + 30
    assert not found.bytes_identical


def life(rise: float, half: float = 0.02, head: Any = None) -> Any:
    return SimpleNamespace(rise=rise, low=rise - half, high=rise + half, oracle_share=0.5, head=head)


OPEN = GateReading(33.0, 20.0, True)
CLOSED = GateReading(3.1, 20.0, False)


@pytest.mark.parametrize(
    ("rises", "gate", "control", "status"),
    [
        ([0.03], OPEN, False, "passed"),
        ([0.01], OPEN, False, "failed"),  # the interval over texts reaches below 0
        ([0.0], CLOSED, False, "not judged"),
        ([0.0], None, False, "failed"),
        ([0.3, -0.2, 0.1], OPEN, False, "failed"),  # whatever the first life's own texts say
        ([0.3, 0.2, 0.25], OPEN, False, "passed"),
        ([-0.009], CLOSED, True, "passed"),
        ([-0.122], OPEN, True, "failed"),
        ([-0.03, 0.0, 0.0, 0.0], OPEN, True, "passed"),
    ],
)
def test_reward_is_judged_over_lives(
    rises: list[float], gate: GateReading | None, control: bool, status: str
) -> None:
    lives = [life(rise) for rise in rises]
    assert reward_rose(lives[0], gate, lives, control).status == status


def test_a_head_moves_by_an_open_gate_and_never_by_chance() -> None:
    shipped, moved = Head(torch.eye(3), torch.zeros(3)), Head(torch.eye(3), torch.ones(3))
    still, gone = life(0.0, head=shipped), life(0.0, head=moved)
    assert head_changed(shipped, moved, OPEN, [gone], False).status == "passed"
    assert head_changed(shipped, shipped, OPEN, [still], False).status == "failed"
    closed = head_changed(shipped, shipped, CLOSED, [still], False)
    assert (closed.status, closed.detail) == ("not judged", "gate: closed (wealth 3.1 of 20)")
    assert head_changed(shipped, shipped, CLOSED, [still], True).status == "passed"
    assert head_changed(shipped, moved, OPEN, [gone], True).status == "failed"
    assert head_changed(shipped, moved, OPEN, [gone, *[still] * 19], True).status == "passed"
    assert head_changed(shipped, moved, OPEN, [gone, gone, *[still] * 18], True).status == "failed"


@pytest.mark.parametrize(
    ("spent", "status"),
    [
        ([(0.71, 0.006, 0.5)], "passed"),
        ([(0.705, 0.006, 0.5)], "failed"),  # 0.695 with 95% confidence
        ([(0.69, 0.006, 0.1), (0.8, 0.006, 0.1)], "failed"),  # any night
        ([(0.8, 0.006, 0.51)], "failed"),
    ],
)
def test_drift_is_judged_by_the_budgets(spent: list[tuple[float, float, float]], status: str) -> None:
    drift, nights = Drift(0.9, 0.01, 0.3, 0.02), [Spent(*one) for one in spent]
    assert drift_within(nights, drift, GRPOConfig(kl_budget=0.5, overlap_budget=0.7)).status == status
    open_wide = GRPOConfig(kl_budget=None, overlap_budget=None)
    assert drift_within(nights, drift, open_wide).status == "passed"
