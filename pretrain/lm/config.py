"""What `pt lm` is asked to do, checked on construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError
from personality_common.runs.keep_choices import KEEP_CHOICES, Keep
from personality_common.runs.tracking import TRACKERS, TrackerName

Quantization = Literal["f32", "f16", "bf16", "q8_0", "q5_0", "q4_0", "q4_k_m", "q6_k"]
QUANTIZATIONS: Final = get_args(Quantization)
FORMATS: Final = ("gguf", "hf", "ollama")

SizeName = Literal["demo", "standard", "small", "medium", "large"]
SIZE_NAMES: Final = get_args(SizeName)
OptimizerName = Literal["muon", "adamw"]
OPTIMIZER_NAMES: Final = get_args(OptimizerName)


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
    # So high a rope_base leaves room to compare what is far apart, which is half of copying.
    "demo": ModelConfig(2048, 320, 4, 5, 160, 320, rope_base=1e8),
    "standard": ModelConfig(4096, 256, 6, 3, 192, 768),
    "small": ModelConfig(32_768, 2048, 18, 16, 1024, 4096),
    "medium": ModelConfig(32_768, 2048, 24, 16, 2048, 8192),
    "large": ModelConfig(32_768, 2048, 32, 24, 3072, 12_288),
}
"""1.15, 3.46, 260, 1,276 and 3,726 million parameters."""


@dataclass(frozen=True)
class TokenizerConfig:
    """What a tokenizer is trained to be.

    Attributes:
        vocab_size: tokens, special ones and the 256 bytes among them.
        digits: each digit is a token of its own.
        spaces: each space is a token of its own, so that a word is the same tokens behind space and quote.
    """

    vocab_size: int = SIZES["demo"].vocab_size
    digits: bool = False
    spaces: bool = False

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


def sized(size: str, vocab_size: int) -> ModelConfig:
    """The shape that `--size` names.

    Args:
        size: a name of SIZES, changes to it after commas: `demo`, `standard,layers=8,rope_base=1e6`; changes
            without a name are to `demo`.
        vocab_size: the tokenizer's, whatever the named size has.

    Raises:
        ConfigError: no such size, no such field, no number, or a field's value is out of range.
    """
    first, *changes = size.split(",")
    if "=" in first:
        first, changes = "demo", [first, *changes]
    named = {str(name): config for name, config in SIZES.items()}
    _require(first in named, f"--size must begin with one of {', '.join(named)}, got {first!r}")
    numbers: dict[str, float] = {"vocab_size": vocab_size}
    kinds = {field.name: type(getattr(named[first], field.name)) for field in dataclasses.fields(ModelConfig)}
    kinds.pop("vocab_size")
    for change in changes:
        name, _, value = change.partition("=")
        _require(name in kinds, f"--size changes one of {', '.join(kinds)}, got {change!r}")
        try:
            numbers[name] = kinds[name](value)
        except ValueError:
            raise ConfigError(f"--size {name} must be a number, got {value!r}") from None
    return dataclasses.replace(named[first], **numbers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class TrainConfig:
    """One run of `pt lm train`.

    Attributes:
        data: folder of pt lm data.
        tokenizer: folder of pt lm tokenizer.
        output_dir: the run.
        size: shape: demo, standard, small, medium or large; after commas, changes to it: layers=8.
        tokens: to train on, in millions; the data are gone through as often as that takes.
        batch_size: rows of context_length tokens in a step.
        optimizer: muon for the matrices of the layers and AdamW for all else, or adamw for all.
        lr: AdamW's, at its highest.
        muon_lr: Muon's, at its highest.
        evaluate_every: steps between two measurements on held-out text, each with a checkpoint.
        seed: of weights and order.
        prepare: begin with heads that copy, and with topics counted in the data, instead of chance alone.
        device: where to compute: auto, cpu, cuda or mps.
        resume: go on where a killed run stopped.
        overwrite: put the run in the place of a finished one.
        keep: best: the state of the lowest held-out loss, be it the start; last: that of the end.
        track: tensorboard or wandb: write the history for it, too, in a folder of the run; nothing is sent.
    """

    data: Path
    tokenizer: Path
    output_dir: Path
    size: str = "demo"
    tokens: float = 6.0
    batch_size: int = 8
    optimizer: OptimizerName = "muon"
    lr: float = 3e-3
    muon_lr: float = 0.02
    evaluate_every: int = 200
    seed: int = 0
    prepare: bool = False
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    keep: Keep = "best"
    track: TrackerName | None = None

    def __post_init__(self) -> None:
        _require(
            self.keep in KEEP_CHOICES, f"--keep must be one of {', '.join(KEEP_CHOICES)}, got {self.keep}"
        )
        _require(
            self.track in (None, *TRACKERS), f"--track must be one of {', '.join(TRACKERS)}, got {self.track}"
        )
        _require(
            not (self.resume and self.overwrite), "--overwrite starts again and --resume goes on: give one"
        )
        length = sized(self.size, TokenizerConfig.vocab_size).context_length
        # Rows number their documents in 16 bits.
        _require(length < 2**16, f"--size context_length must be below 65,536, got {length}")
        _require(0 < self.tokens <= 1e9, f"--tokens must be above 0 and at most 1e9, got {self.tokens}")
        _require(self.batch_size >= 1, f"--batch-size must be 1 or more, got {self.batch_size}")
        _require(
            self.optimizer in OPTIMIZER_NAMES,
            f"--optimizer must be one of {', '.join(OPTIMIZER_NAMES)}, got {self.optimizer}",
        )
        for name, lr in (("--lr", self.lr), ("--muon-lr", self.muon_lr)):
            _require(0 < lr <= 1, f"{name} must be above 0 and at most 1, got {lr}")
        _require(self.evaluate_every >= 1, f"--evaluate-every must be 1 or more, got {self.evaluate_every}")
        _require(0 <= self.seed < 2**32, f"--seed must be between 0 and 2^32 - 1, got {self.seed}")

    def steps(self, context_length: int) -> int:
        """Of the optimizer."""
        return max(1, round(self.tokens * 1e6 / (self.batch_size * context_length)))


@dataclass(frozen=True)
class ExportConfig:
    """What `pt lm export` is asked for.

    Attributes:
        run: what to export.
        out: a new folder, or one that an earlier export made.
        formats: gguf for llama.cpp; hf for transformers and MLX; ollama, whose Modelfile needs gguf.
        quantize: how the matrices of each GGUF file are stored; of several, Ollama gets q8_0, or the first.
    """

    run: Path
    out: Path
    formats: tuple[str, ...] = FORMATS
    quantize: tuple[Quantization, ...] = ("f32", "q8_0")

    def __post_init__(self) -> None:
        for option, given, choices in (
            ("--formats", self.formats, FORMATS),
            ("--quantize", self.quantize, QUANTIZATIONS),
        ):
            _require(bool(given), f"{option} must name at least one of {', '.join(choices)}, names none")
            _require(len(set(given)) == len(given), f"{option} must name each once, got {', '.join(given)}")
            for name in given:
                _require(name in choices, f"{option} must be of {', '.join(choices)}, got {name}")
        _require(
            "ollama" not in self.formats or "gguf" in self.formats, "--formats ollama needs gguf beside it"
        )

    @property
    def for_ollama(self) -> Quantization:
        return "q8_0" if "q8_0" in self.quantize else self.quantize[0]


@dataclass(frozen=True)
class EvalConfig:
    """What `pt lm eval` measures.

    Attributes:
        run: what was trained.
        data: other data than the run was trained with.
        examples: answers that are decoded, of each kind.
    """

    run: Path
    data: Path | None = None
    examples: int = 200

    def __post_init__(self) -> None:
        _require(self.examples >= 1, f"--examples must be 1 or more, got {self.examples}")
