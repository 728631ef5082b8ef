"""Small heads and a store."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from device_sim.heads.heads import create_heads
from grpo.head import Head
from personality_common.registry.record import Gate, Record
from personality_common.registry.registry import Registry

IDENTITY = {"bundle": "b" * 64, "vocabulary": "v" * 64, "encoder": "e" * 64}


@pytest.fixture(scope="session")
def make_head() -> Callable[..., Head]:
    def make(seed: int, rows: int = 6, columns: int = 4) -> Head:
        draw = torch.Generator().manual_seed(seed)
        return Head(torch.randn(rows, columns, generator=draw), torch.randn(rows, generator=draw))

    return make


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A record of an update that passed its gate."""

    def make(parent: str, **changes: object) -> Record:
        fields = {
            "identity": IDENTITY,
            "created": "2026-01-02T03:04:05+00:00",
            "parents": (parent,),
            "settings": {"learning_rate": 30.0, "loss": "dr-grpo"},
            "data": {"feedback": "f" * 64},
            "before": {"reward_mean": 0.25},
            "after": {"kl_shipped": 0.5, "overlap_shipped": 0.75},
            "gates": (Gate("frozen tensors identical", True, "26 tensors"),),
        }
        return Record(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(tmp_path: Path, make_head: Callable[..., Head]) -> Registry[Head]:
    return create_heads(tmp_path / "heads", IDENTITY, make_head(0))


@pytest.fixture
def grown(
    store: Registry[Head], make_head: Callable[..., Head], make_record: Callable[..., Record]
) -> tuple[Registry[Head], list[str]]:
    """Six versions, each made from the one before and activated."""
    versions = [store.active]
    for seed in range(1, 6):
        versions.append(store.add(make_head(seed), make_record(versions[-1])))
        store.activate(versions[-1])
    return store, versions
