"""What tests of several trainers share: a stand-in for the encoder, and what a tracker must hold."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hash_encoder import HashEncoder


@pytest.fixture(scope="session")
def hash_encoder() -> type[HashEncoder]:
    return HashEncoder


@pytest.fixture
def require_tracked() -> Callable[[Path, str, Sequence[Mapping[str, Any]]], None]:
    """TensorBoard's own reader must find in a run each figure of a history, once, in float32."""
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="of the extra tensorboard"
    )

    def require(run: Path, count: str, history: Sequence[Mapping[str, Any]]) -> None:
        events = module.EventAccumulator(str(run / "tensorboard")).Reload()
        wanted: dict[str, list[tuple[int, float]]] = {}
        for entry in history:
            for name, value in entry.items():
                parts = value.items() if isinstance(value, dict) else [("", value)]
                for part, number in parts:
                    tag = f"{name}/{part}" if part else name
                    wanted.setdefault(tag, []).append((entry[count], float(np.float32(number))))
        del wanted[count]
        assert {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        } == wanted

    return require
