"""What a night asks of a model; `models.py` answers with llama.cpp and PyTorch, tests with less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from device_sim.capability.running import Scored
from device_sim.capability.suite import Suite
from device_sim.night.state import Training
from personality_common.registry.registry import Registry
from personality_common.terminal.progress import Reporter


class Prompted(NamedTuple):
    """A message, and what is remembered beside it.

    Attributes:
        memories: as a search would give them, the best first.
        score: of the best one.
    """

    text: str
    memories: tuple[str, ...] = ()
    score: float = 0.0


Said: TypeAlias = tuple[Prompted, str]
"""A message and an answer."""


class Engine(Protocol):
    """A base model, with any adapter of it, which is a file; None is none.

    Attributes:
        base: SHA-256 of the base's file.
    """

    @property
    def base(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, width), L2-normalized."""
        ...

    def losses(self, adapter: Path | None, said: Sequence[Said]) -> list[float]:
        """Mean nats per answer token of each."""
        ...

    def answers(self, adapter: Path | None, asked: Sequence[Prompted], max_tokens: int) -> list[str]:
        """Greedy, by the runtime that serves."""
        ...

    def run(self, adapter: Path | None, suite: Suite, reporter: Reporter) -> list[Scored]:
        """Greedy, by the runtime that serves."""
        ...

    def train(
        self,
        train: Sequence[Said],
        validation: Sequence[Said],
        replay: Sequence[Said],
        out: Path,
        work: Path,
        *,
        seed: int,
        minutes: float,
        reporter: Reporter,
    ) -> Training:
        """Train from the base and write the adapter; what a kill stopped goes on from `work`.

        Args:
            replay: with the base's own answers, which are to stay what they are.
        """
        ...

    def registry(self, store: Path, *, create: bool) -> Registry[Any] | None:
        """Versions of the store's adapters; None where there are none, and none are to be made."""
        ...

    def value(self, adapter: Path) -> Any:
        """What the registry takes for a file."""
        ...
