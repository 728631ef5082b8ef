"""Small heads and a store."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from device_sim.heads.record import Gate, HeadRecord
from device_sim.heads.store import HeadStore
from device_sim.routes.bundle import Identity
from grpo.head import Head

IDENTITY = Identity("b" * 64, "v" * 64, "e" * 64)


@pytest.fixture
def make_head() -> Callable[..., Head]:
    def make(seed: int, rows: int = 6, columns: int = 4) -> Head:
        draw = torch.Generator().manual_seed(seed)
        return Head(torch.randn(rows, columns, generator=draw), torch.randn(rows, generator=draw))

    return make


@pytest.fixture
def make_record() -> Callable[..., HeadRecord]:
    """A record of an update that passed its gate."""

    def make(parent: str | None, **changes: object) -> HeadRecord:
        fields = {
            "identity": IDENTITY,
            "created": "2026-01-02T03:04:05+00:00",
            "parent": parent,
            "settings": {"learning_rate": 30.0, "loss": "dr-grpo"},
            "feedback": "f" * 64,
            "before": {"reward": 0.25},
            "after": {"reward": 0.5},
            "gates": (Gate("frozen tensors identical", True, "26 tensors"),),
        }
        return HeadRecord(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(tmp_path: Path, make_head: Callable[..., Head]) -> HeadStore:
    return HeadStore.create(tmp_path / "heads", IDENTITY, make_head(0))


@pytest.fixture
def grown(
    store: HeadStore, make_head: Callable[..., Head], make_record: Callable[..., HeadRecord]
) -> tuple[HeadStore, list[str]]:
    """Six versions, each made from the one before and activated."""
    versions = [store.active]
    for seed in range(1, 6):
        versions.append(store.add(make_head(seed), make_record(versions[-1])))
        store.activate(versions[-1])
    return store, versions
