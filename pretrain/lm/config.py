"""What `pt lm` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError

SizeName = Literal["demo", "standard", "small", "medium", "large"]
SIZE_NAMES: Final = get_args(SizeName)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder.

    Attributes:
        vocab_size: tokens that it tells apart.
        context_length: tokens that it is trained to look back over, itself included.
        layers: attention and feed-forward, that many times.
        heads: of each attention; they divide the embedding.
        embedding_size: numbers per token between layers.
        feed_forward_size: hidden units of a layer's feed-forward part.
        rope_base: longest wavelength of the rotary positions, in units of 2 pi tokens, nearly.
        layer_norm_eps: added to the variance.
    """

    vocab_size: int
    context_length: int
    layers: int
    heads: int
    embedding_size: int
    feed_forward_size: int
    rope_base: float = 10_000.0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "context_length",
            "layers",
            "heads",
            "embedding_size",
            "feed_forward_size",
        ):
            _require(getattr(self, name) >= 1, f"{name} must be 1 or more, got {getattr(self, name)}")
        _require(
            self.embedding_size % (2 * self.heads) == 0,
            f"embedding_size must give each of {self.heads} heads an even number, got {self.embedding_size}",
        )
        _require(self.rope_base > 1, f"rope_base must be above 1, got {self.rope_base}")
        _require(
            0 < self.layer_norm_eps < 1, f"layer_norm_eps must be within 0 and 1, got {self.layer_norm_eps}"
        )

    @property
    def head_size(self) -> int:
        return self.embedding_size // self.heads

    @property
    def parameters(self) -> int:
        """Numbers that training changes; the embedding, which is the head too, counts once."""
        d, f = self.embedding_size, self.feed_forward_size
        attention, feed_forward, norms = 4 * (d * d + d), 2 * d * f + f + d, 4 * d
        return self.vocab_size * d + self.layers * (attention + feed_forward + norms) + 2 * d


SIZES: Final[dict[SizeName, ModelConfig]] = {
    # vocabulary, context, layers, heads, embedding, feed-forward
    "demo": ModelConfig(1024, 256, 4, 2, 128, 512),
    "standard": ModelConfig(4096, 256, 6, 3, 192, 768),
    "small": ModelConfig(32_768, 2048, 18, 16, 1024, 4096),
    "medium": ModelConfig(32_768, 2048, 24, 16, 2048, 8192),
    "large": ModelConfig(32_768, 2048, 32, 24, 3072, 12_288),
}
"""0.92, 3.46, 260, 1,276 and 3,726 million parameters."""


@dataclass(frozen=True)
class TokenizerConfig:
    """What a tokenizer is trained to be.

    Attributes:
        vocab_size: tokens, special ones and the 256 bytes among them.
        digits: each digit is a token of its own.
    """

    vocab_size: int = SIZES["demo"].vocab_size
    digits: bool = False

    def __post_init__(self) -> None:
        _require(
            512 <= self.vocab_size <= 65_536,
            f"--vocab-size must be between 512 and 65,536, got {self.vocab_size}",
        )


@dataclass(frozen=True)
class DataConfig:
    """What `pt lm data` makes.

    Attributes:
        mix: the mix file; none for the one that comes with the toolkit, which needs no other file.
        out: folder of the data.
    """

    mix: Path | None
    out: Path
