"""How an adapter is trained, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from device_sim.adapters.adapter import MAX_RANK
from personality_common.errors import ConfigError

Backend = Literal["torch", "mlx"]


@dataclass(frozen=True)
class LoraConfig:
    """A training of an adapter on all linear layers.

    Attributes:
        rank: of the adapter.
        alpha: the adapter is scaled by alpha / rank.
        learning_rate: of AdamW, after a warm-up, before it falls to 0.
        epochs: passes over the examples, at most.
        batch: examples a step; as many of what is replayed come to them.
        seed: of the start and of the order.
        minutes: training ends before an epoch that would end later; none: after its epochs.
        loss_on: tokens that bear the loss: the answer's, or all.
        replay_weight: of what differs from the base on what is replayed, beside the loss of the examples.
        backend: what computes losses and gradients: torch, or mlx.
        patience: epochs without a better held-out loss, after which training ends.
    """

    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 1e-3
    epochs: int = 3
    batch: int = 2
    seed: int = 0
    minutes: float | None = None
    loss_on: Literal["answer", "all"] = "answer"
    replay_weight: float = 16.0
    backend: Backend = "torch"
    patience: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise ConfigError(f"--rank must be from 1 to {MAX_RANK}, got {self.rank}")
        if not 0 < self.alpha <= 1024:
            raise ConfigError(f"--alpha must be above 0, up to 1024, got {self.alpha:g}")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"--learning-rate must be above 0, up to 1, got {self.learning_rate:g}")
        for name in ("epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be 1 or more, got {getattr(self, name)}")
        if self.seed < 0:
            raise ConfigError(f"--seed must be 0 or more, got {self.seed}")
        if not 0 <= self.replay_weight <= 100:
            raise ConfigError(f"--replay-weight must be 0 to 100, got {self.replay_weight:g}")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"--minutes must be above 0, got {self.minutes:g}")
