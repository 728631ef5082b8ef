"""What `pt chat` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from device_sim.companion.events import DEFAULT_USER
from personality_common.errors import ConfigError

RedactMode: TypeAlias = Literal["mask", "drop", "off"]
DEFAULT_MODEL: Final = "smollm2"
NO_ADAPTER: Final = "none"


@dataclass(frozen=True)
class ChatConfig:
    """A companion to chat with.

    Attributes:
        store: where what was said is kept; made by the first chat.
        model: `smollm2`, a GGUF file, a folder of `pt lm export`, or a server that speaks OpenAI's protocol,
            as URL or openai:URL#MODEL.
        adapter: a LoRA of the model, in GGUF, or `none`; without it the store's active one, if it is of this
            model.
        bundle: reads the mood of what you write; none: no mood.
        heads: versions of the bundle's head, whose active one reads the mood; none: the one that shipped.
        character: a file whose block stands in the prompt, as pt character predict --prompt prints it.
        no_memory: remember nothing for this chat, and of it.
        user: whose memories they are.
        redact: personal data and secrets before the disk: mask them, drop the turn, or keep all; names stay,
            and keep a turn out of training.
        show_mood: print the tokens that your message was read as.
        verbose: say what was left out of the prompt, and how long things took.
        max_tokens: of an answer.
        temperature: 0 takes the likeliest token.
        threads: of llama.cpp; more than there are idle cores make it slower by far.
    """

    store: Path = Path("companion")
    model: str = DEFAULT_MODEL
    adapter: str | None = None
    bundle: Path | None = None
    heads: Path | None = None
    character: Path | None = None
    no_memory: bool = False
    user: str = DEFAULT_USER
    redact: RedactMode = "mask"
    show_mood: bool = False
    verbose: bool = False
    max_tokens: int = 256
    temperature: float = 0.7
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.user.strip() or len(self.user) > 64 or not self.user.isprintable():
            raise ConfigError(f"--user must be 1 to 64 printable characters, got {self.user!r:.80}")
        if self.adapter not in (None, NO_ADAPTER) and not Path(self.adapter).exists():
            raise ConfigError(f"--adapter must be {NO_ADAPTER} or a GGUF file, got {self.adapter!r:.200}")
        if self.heads is not None and self.bundle is None:
            raise ConfigError("--heads must be of a --bundle, which is not given")
        if self.max_tokens < 1:
            raise ConfigError(f"--max-tokens must be 1 or more, got {self.max_tokens}")
        if not 0 <= self.temperature <= 2:
            raise ConfigError(f"--temperature must be from 0 to 2, got {self.temperature:g}")
        if self.threads < 1:
            raise ConfigError(f"--threads must be 1 or more, got {self.threads}")
