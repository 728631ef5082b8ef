"""What `pt simulate --companion` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sim.companion.config import DEFAULT_MODEL
from personality_common.errors import ConfigError

LEAST_TURNS: Final = 8
"""A day tells, or asks for, five facts; and there is something to talk about besides."""
MOST_DAYS: Final = 14
MOST_TURNS: Final = 40
"""What there is to say in `week.toml` is then said."""


@dataclass(frozen=True)
class WeekConfig:
    """A week of days and nights.

    Attributes:
        out: folder of the week: its store, and what came of it. One that a kill left goes on.
        days: and as many nights.
        turns: what the user says a day; of fewer than 24 most nights have too little to judge by, and wait.
        seed: of what the user says, likes and is, and of the nights.
        model: `smollm2`, a GGUF file, or a folder of `pt lm export`.
        suite: tasks that a night must not lose: `default`, `short`, or a file of them.
        budget_minutes: the longest training of a night, by the clock.
        threads: of llama.cpp and of PyTorch.
    """

    out: Path = Path("week")
    days: int = 7
    turns: int = 24
    seed: int = 0
    model: str = DEFAULT_MODEL
    suite: str = "short"
    budget_minutes: float = 10.0
    threads: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.days <= MOST_DAYS:
            raise ConfigError(f"--days must be from 2 to {MOST_DAYS}, got {self.days}")
        if not LEAST_TURNS <= self.turns <= MOST_TURNS:
            raise ConfigError(f"--turns must be from {LEAST_TURNS} to {MOST_TURNS}, got {self.turns}")
        if self.seed < 0:
            raise ConfigError(f"--seed must be 0 or more, got {self.seed}")
        if not 0 < self.budget_minutes <= 24 * 60:
            raise ConfigError(f"--budget-minutes must be above 0, at most 1440, got {self.budget_minutes:g}")
        if self.threads < 1:
            raise ConfigError(f"--threads must be 1 or more, got {self.threads}")
        if self.model.startswith(("http://", "https://", "openai:")):
            raise ConfigError("--model must be a GGUF file: what a server answers with cannot be trained")
