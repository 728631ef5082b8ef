"""What `pt character` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError
from personality_common.runs.keep_choices import KEEP_CHOICES, Keep
from personality_common.runs.tracking import TRACKERS, TrackerName
from pretrain.character.schema import DEFAULT_SCHEMA, SCHEMA_NAMES, SchemaName
from pretrain.character.split import SPLIT_NAMES, SplitName

ModelName = Literal["skip", "seed"]
MODEL_NAMES: Final = get_args(ModelName)
Weights = Literal["float32", "float16", "int8"]
WEIGHTS: Final = get_args(Weights)
FORMATS: Final = ("onnx", "coreml")

HEAD_WEIGHTS: Final = {"action": 0.35, "speech": 0.20, "thought": 0.20, "emotion": 0.25}
"""Of the heads in the loss."""

PEAK_LR: Final[dict[ModelName, float]] = {"skip": 3e-2, "seed": 1e-3}
WEIGHT_DECAY: Final[dict[ModelName, float]] = {"skip": 0.0, "seed": 1e-2}
DROPOUT: Final[dict[ModelName, float]] = {"skip": 0.0, "seed": 0.1}
INPUT_SHRINK: Final[dict[ModelName, tuple[float, float]]] = {"skip": (0.3, 0.45), "seed": (0.0, 0.0)}
HIDDEN_SHRINK: Final[dict[ModelName, tuple[float, float]]] = {"skip": (0.02, 0.15), "seed": (0.0, 0.0)}
"""How far each step pulls weights towards zero, in units of the learning rate: those that read the input, and
the others; with expected labels, and with drawn ones, whose luck must not be learned. Of 453 inputs a few
decide an output, and the rest is noise to it: without this pull, awareness of unseen archetypes is 0.84,
with it 0.99."""


@dataclass(frozen=True)
class DataConfig:
    """What `pt character data` generates.

    Attributes:
        out: folder of the data.
        examples: to train with; a fifth as many, of other archetypes, are written beside them.
        archetypes: characters in the examples; of the rest of ours, 40 at most are the others.
        seed: of everything drawn.
        schema: v1 as the engine has it, or v2.
    """

    out: Path
    examples: int = 15_000
    archetypes: int = 240
    seed: int = 0
    schema: SchemaName = DEFAULT_SCHEMA

    def __post_init__(self) -> None:
        _require(self.examples >= 1, f"--examples must be 1 or more, got {self.examples}")
        _require(self.archetypes >= 2, f"--archetypes must be 2 or more, got {self.archetypes}")
        _require_choice("--schema", self.schema, SCHEMA_NAMES)
        _require_seed(self.seed)


@dataclass(frozen=True)
class TrainConfig:
    """One run of `pt character train`.

    Attributes:
        data: folder of the data, or a JSONL file with its manifest beside it.
        output_dir: the run.
        model: skip: two layers, with a linear skip from the input to each head; seed: the engine's first one.
        epochs: passes over the training examples.
        batch_size: examples per step.
        lr: peak of the one-cycle schedule; none for the model's own.
        dropout: share of the hidden units that training drops; none for the model's own.
        split: what is held out whole: group (cells), archetype (characters), or random examples.
        seed: of weights, order, dropout and split.
        resume: go on where a killed run stopped.
        overwrite: put the run in the place of a finished one.
        keep: best: the state of the lowest held-out loss, be it the start; last: that of the end.
        track: tensorboard or wandb: write the history for it, too, in a folder of the run; nothing is sent.
    """

    data: Path
    output_dir: Path
    model: ModelName = "skip"
    epochs: int = 60
    batch_size: int = 512
    lr: float | None = None
    dropout: float | None = None
    split: SplitName = "group"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    keep: Keep = "best"
    track: TrackerName | None = None

    def __post_init__(self) -> None:
        _require_choice("--keep", self.keep, KEEP_CHOICES)
        if self.track is not None:
            _require_choice("--track", self.track, TRACKERS)
        _require(
            not (self.resume and self.overwrite), "--overwrite starts again and --resume goes on: give one"
        )
        _require_choice("--model", self.model, MODEL_NAMES)
        _require_choice("--split", self.split, SPLIT_NAMES)
        _require(self.epochs >= 1, f"--epochs must be 1 or more, got {self.epochs}")
        _require(self.batch_size >= 1, f"--batch-size must be 1 or more, got {self.batch_size}")
        _require(self.lr is None or 0 < self.lr <= 1, f"--lr must be above 0 and at most 1, got {self.lr}")
        valid = self.dropout is None or 0 <= self.dropout < 1
        _require(valid, f"--dropout must be 0 or more and below 1, got {self.dropout}")
        _require_seed(self.seed)

    @property
    def peak_lr(self) -> float:
        return PEAK_LR[self.model] if self.lr is None else self.lr

    @property
    def drop(self) -> float:
        return DROPOUT[self.model] if self.dropout is None else self.dropout


@dataclass(frozen=True)
class ExportConfig:
    """What `pt character export` is asked for.

    Attributes:
        run: what to export.
        out: a new folder, or one that an earlier export made.
        formats: onnx, coreml.
        precision: how matrices are stored; in Core ML, of arithmetic, too. int8 is for ONNX alone, and only
            where it changes almost no answer.
    """

    run: Path
    out: Path
    formats: tuple[str, ...] = FORMATS
    precision: Weights = "float32"

    def __post_init__(self) -> None:
        for name in self.formats:
            _require_choice("--formats", name, FORMATS)
        _require(bool(self.formats), "--formats must name onnx, coreml or both, names none")
        _require_choice("--precision", self.precision, WEIGHTS)
        _require(
            self.precision != "int8" or self.formats == ("onnx",),
            "--precision int8 is for ONNX alone; add --formats onnx",
        )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _require_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, f"{option} must be one of {', '.join(choices)}, got {value}")


def _require_seed(seed: int) -> None:
    # scikit-learn takes no larger one.
    _require(0 <= seed < 2**32, f"--seed must be between 0 and 2^32 - 1, got {seed}")
