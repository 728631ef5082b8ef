"""What `pt eval lm` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.errors import ConfigError

DEFAULT: Final = "default"
PROBES: Final = "probes"


@dataclass(frozen=True)
class EvalConfig:
    """A model's tasks.

    Attributes:
        model: `smollm2`, a GGUF file, a folder of `pt lm export`, or a server that speaks OpenAI's protocol.
        adapter: a LoRA of the model, in GGUF.
        suite: `default`, the toolkit's own tasks; `probes`, what a night should not change; or a file of
            tasks, in TOML.
    """

    model: str
    adapter: Path | None = None
    suite: str = DEFAULT

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("MODEL must name a model, is empty")
        if self.suite not in (DEFAULT, PROBES) and not Path(self.suite).exists():
            raise ConfigError(f"--suite must be {DEFAULT}, {PROBES}, or a file, got {self.suite!r:.200}")
