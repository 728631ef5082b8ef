"""What `pt night run` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sim.companion.config import DEFAULT_MODEL
from device_sim.companion.events import DEFAULT_USER
from device_sim.finetuning.config import Backend
from personality_common.errors import ConfigError

MOST_AUGMENTED: Final = 1_000


@dataclass(frozen=True)
class NightConfig:
    """A night.

    Attributes:
        store: the companion's folder.
        model: `smollm2`, a GGUF file, or a folder of `pt lm export`: what answers by day.
        bundle: whose head learns from what you thought of answers to what it read; none: no head does.
        user: whose words are learned.
        backend: what trains: torch, or mlx, which is for Apple silicon.
        suite: tasks that must not be lost: `default`, `short`, or a file of them.
        augment: questions about facts, at most, that the model words itself and that are trained, checked;
            0: none.
        budget_minutes: the longest training, by the clock.
        seed: of the split and of training.
        threads: of llama.cpp and of PyTorch.
        min_free: GB of the disk that must be free.
        on_failure: a command that is run when a night fails, with what went wrong as its last word; without a
            shell.
        resume: go on with the night that was stopped, with its own settings; without this it is begun anew.
        dry_run: say what would be learned, left out, and why; touch nothing.
        verbose: show beginnings of the texts, too.
    """

    store: Path
    model: str = DEFAULT_MODEL
    bundle: Path | None = None
    user: str = DEFAULT_USER
    backend: Backend = "torch"
    suite: str = "default"
    augment: int = 0
    budget_minutes: float = 30.0
    seed: int = 0
    threads: int = 1
    min_free: float = 2.0
    on_failure: str | None = None
    resume: bool = False
    dry_run: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if not self.user.strip() or len(self.user) > 64 or not self.user.isprintable():
            raise ConfigError(f"--user must be 1 to 64 printable characters, got {self.user!r:.80}")
        if not 0 <= self.augment <= MOST_AUGMENTED:
            raise ConfigError(f"--augment must be from 0 to {MOST_AUGMENTED:,}, got {self.augment}")
        if not 0 < self.budget_minutes <= 24 * 60:
            raise ConfigError(f"--budget-minutes must be above 0, at most 1440, got {self.budget_minutes:g}")
        if self.seed < 0:
            raise ConfigError(f"--seed must be 0 or more, got {self.seed}")
        if self.threads < 1:
            raise ConfigError(f"--threads must be 1 or more, got {self.threads}")
        if not 0 <= self.min_free < 1e6:
            raise ConfigError(f"--min-free must be 0 or more, got {self.min_free:g}")
        if self.model.startswith(("http://", "https://", "openai:")):
            raise ConfigError("--model must be a GGUF file: what a server answers with cannot be trained")
        if self.resume and self.dry_run:
            raise ConfigError("--resume goes on with a night, and --dry-run touches none")
