"""Comparison of packages, on folders small enough to count by hand; and the verdict's judgement."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from device_sim.simulate.drift import Drift, TokenShift
from device_sim.simulate.integrity import compare_packages
from device_sim.simulate.verdict import drift_within, reward_rose
from device_sim.users.users import UserConfig
from grpo.config import GRPOConfig
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


@pytest.mark.parametrize(
    ("low", "high", "status"), [(0.01, 0.2, "passed"), (-0.01, 0.2, "failed"), (-0.3, -0.2, "failed")]
)
@pytest.mark.parametrize("user", [UserConfig("profile"), UserConfig("thumbs"), None])
def test_reward_is_judged_by_its_interval(
    user: UserConfig | None, low: float, high: float, status: str
) -> None:
    night: Any = SimpleNamespace(rise=(low + high) / 2, low=low, high=high, oracle_share=None)
    assert reward_rose(night, user, ()).status == status


def test_random_user_is_judged_by_what_chance_gives() -> None:
    """A user whose rewards say nothing: of heads that moved at random, one in forty may fail."""
    generator = torch.Generator().manual_seed(0)
    tokens, failed, draws = 325, 0, 2000
    change = torch.zeros(tokens)
    change[:80] = 0.05 * torch.randn(80, generator=generator)
    shifts = [TokenShift(str(i), 0.5, 0.5 + x) for i, x in enumerate(change.tolist())]
    for _ in range(draws):
        taste = torch.randn(tokens, generator=generator)
        rise = float(taste @ change) / 8
        night: Any = SimpleNamespace(rise=rise, low=rise - 1e-9, high=rise + 1e-9)
        failed += reward_rose(night, UserConfig("random"), shifts).status == "failed"
    # Binomial: 50 of 2000 expected, standard deviation 7.
    assert 22 <= failed <= 78


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "passed"),
        ({"overlap_shipped": 0.69}, "failed"),
        ({"overlap_shipped": 0.69, "changed_weights": 0}, "passed"),
        ({"kl_shipped": 0.51}, "failed"),
        ({"overlap": 0.59}, "passed"),
        ({"overlap": 0.57}, "failed"),
        ({"kl": 0.57}, "failed"),
    ],
)
def test_drift_is_judged_by_the_budgets(change: dict[str, float], status: str) -> None:
    night = {"overlap_shipped": 0.7, "kl_shipped": 0.5, "changed_weights": 9} | change
    drift = Drift(change.get("kl", 0.4), 0.01, change.get("overlap", 0.7), 0.02)
    nights: Any = [SimpleNamespace(**night)]
    assert drift_within(nights, drift, GRPOConfig(kl_budget=0.5, overlap_budget=0.7)).status == status
    open_wide = GRPOConfig(kl_budget=None, overlap_budget=None)
    assert drift_within(nights, drift, open_wide).status == "passed"
