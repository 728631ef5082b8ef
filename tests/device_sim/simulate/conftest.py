"""A bundle and a stand-in encoder: most tests are about bookkeeping, which needs no meaning."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.heads.shipped import open_shipped
from device_sim.simulate.config import SimulateConfig
from device_sim.simulate.simulation import Simulation, simulate_phone
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.terminal.progress import SILENT

TEXTS = str(Path(__file__).parents[3] / "fixtures" / "conversations.jsonl")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bundle(openai_bundle: Path) -> Path:
    """Of a run whose base embeddings are embeddings."""
    return openai_bundle


@pytest.fixture
def spoilt(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(bundle, tmp_path / "spoilt"))


@pytest.fixture(autouse=True)
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text a random unit vector of its own, in place of an encoder."""
    if "bundle" not in request.fixturenames:
        return
    identity = open_shipped(request.getfixturevalue("bundle")).encoder

    def encode(texts: Sequence[str]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") for t in texts]
        rows = np.stack([np.random.default_rng(s).standard_normal(identity.dim) for s in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    encoder = SimpleNamespace(identity=identity, source="a test", compute_dtype="float32", encode=encode)
    monkeypatch.setattr("device_sim.simulate.texts.load_encoder", lambda *_: encoder)


@pytest.fixture
def small(bundle: Path) -> Callable[..., SimulateConfig]:
    """A configuration of two short nights; keywords replace its fields."""

    def make(**changes: Any) -> SimulateConfig:
        nights = NightsConfig(nights=2, interactions=8, group=4)
        settings: dict[str, Any] = {
            "bundle": bundle,
            "nights": nights,
            "grpo": GRPOConfig(inner_iterations=3, gate=None),
        }
        if "feedback" not in changes:
            settings |= {"user": "profile", "data": TEXTS}
        return SimulateConfig(**(settings | changes))

    return make


@pytest.fixture
def run_small(small: Callable[..., SimulateConfig]) -> Callable[..., Simulation]:
    def run(**changes: Any) -> Simulation:
        with simulate_phone(small(**changes), SILENT) as (result, _):
            return result

    return run


@pytest.fixture
def statuses() -> Callable[[Simulation], dict[str, str]]:
    """Claim -> status; prints the details, for when a test fails."""

    def find(result: Simulation) -> dict[str, str]:
        for check in result.checks:
            print(check)
        return {check.name: check.status for check in result.checks}

    return find
