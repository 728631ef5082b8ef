"""What `pt chat` and `pt serve` are asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from device_sim.companion.events import DEFAULT_USER
from personality_common.endpoint.config import EndpointConfig
from personality_common.errors import ConfigError

RedactMode: TypeAlias = Literal["mask", "drop", "off"]
DEFAULT_MODEL: Final = "smollm2"
NO_ADAPTER: Final = "none"


@dataclass(frozen=True)
class CompanionConfig:
    """A companion, however one talks to it.

    Attributes:
        store: where what was said is kept; made by the first chat.
        model: `smollm2`, a GGUF file, a folder of `pt lm export`; hf: or mlx: and a folder or a cached
            name of the hub; or a server that speaks OpenAI's protocol, as URL or openai:URL#MODEL.
        adapter: a LoRA of the model, in GGUF, or `none`; without it the store's active one, if it is of this
            model.
        bundle: reads the mood of what you write; none: no mood.
        heads: versions of the bundle's head, whose active one reads the mood; without it the store's, if they
            are of this bundle, or the one that shipped.
        character: a file whose block stands in the prompt, as pt character predict --prompt prints it.
        no_memory: remember nothing for this chat, and of it.
        user: whose memories they are.
        redact: personal data and secrets before the disk: mask them, drop the turn, or keep all; names stay,
            and keep a turn out of training.
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
    max_tokens: int = 256
    temperature: float = 0.7
    threads: int = 1

    def __post_init__(self) -> None:
        _require_user(self.user)
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


@dataclass(frozen=True)
class ChatConfig(CompanionConfig):
    """A companion in a terminal.

    Attributes:
        show_mood: print the tokens that your message was read as.
        verbose: say what was left out of the prompt, and how long things took.
    """

    show_mood: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class ServeConfig(CompanionConfig):
    """A companion behind an endpoint of this machine alone.

    Attributes:
        port: to listen at; 0 takes a free one.
        api_key: what clients must send as a bearer token, so that other users of this machine cannot ask;
            better as PT_API_KEY, since others see commands.
    """

    port: int = EndpointConfig.port
    api_key: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.endpoint

    @property
    def endpoint(self) -> EndpointConfig:
        """ConfigError where the port or the key is none."""
        return EndpointConfig(port=self.port, api_key=self.api_key)


@dataclass(frozen=True)
class ImportConfig:
    """Conversations of another tool, for a companion to know.

    Attributes:
        store: made where there is none.
        file: see `imports.formats`.
        user: whose conversations they are.
        redact: personal data and secrets before the disk: mask them, drop the turn, or keep all; names stay,
            and keep a turn out of training.
        encoder: that makes the memory's vectors: minilm, openai, or a folder.
    """

    store: Path
    file: Path
    user: str = DEFAULT_USER
    redact: RedactMode = CompanionConfig.redact
    encoder: str = "minilm"

    def __post_init__(self) -> None:
        _require_user(self.user)


def _require_user(user: str) -> None:
    if not user.strip() or len(user) > 64 or not user.isprintable():
        raise ConfigError(f"--user must be 1 to 64 printable characters, got {user!r:.80}")
