"""What `pt pretrain` is asked to do, checked on construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError
from personality_common.runs.keep_choices import KEEP_CHOICES, Keep
from personality_common.runs.tracking import TRACKERS, TrackerName
from pretrain.data.conversations import DataConfig

Start = Literal["teacher", "plain"]
STARTS: Final = get_args(Start)
Device = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: Final = get_args(Device)

DEFAULT_LR: Final = {"teacher": 2e-5, "plain": 1e-3}
ADAM_EPS: Final = {"teacher": 1e-3, "plain": 1e-8}
"""At the teacher nearly all gradients are noise, and Adam divides a gradient by its own size: each
weight would walk by `lr` a step in a random direction, and the ranking with it (recall 0.95 after
3 epochs). An eps above the noise leaves those steps small; gradients along the log-partition's
direction are larger and keep their pace."""

PLAIN_TEMPLATE: Final = "{}"
MAX_TEMPLATE: Final = 200

FINAL_LR: Final = 1e-6
WEIGHT_DECAY: Final = 1e-2
GRADIENT_CLIP: Final = 1.0


@dataclass(frozen=True)
class PretrainConfig:
    """One run of `pt pretrain`.

    Attributes:
        data: what to read.
        output_dir: the run: weights, checkpoints, history, embedding cache.
        tokens: the app's own vocabulary; one ships with the toolkit.
        encoder: what turns text into base embeddings: minilm, openai, auto, or a folder.
        epochs: passes over the training texts.
        batch_size: texts per step, over all processes.
        local_steps: steps that each of several processes takes alone before their weights are averaged; 1:
            gradients are averaged at every step, as one process has them.
        lr: first learning rate of the cosine schedule; none: the start's own.
        val_fraction: share of the distinct texts that is held out.
        seed: of weights, order and dropout.
        resume: go on where a killed run stopped, or a finished one with fewer epochs; start where there is
            none.
        overwrite: put the run in the place of a finished one.
        keep: best: the state of the lowest held-out loss, be it the start; last: that of the end.
        device: where to compute.
        dropout: share of the residual branches' outputs that training drops.
        start: `teacher` begins at the targets' ranking, `plain` at PyTorch's random weights.
        label_weight: share of labels in the targets of texts that have `tokens`, 0 to 1; at 0 none is read.
        token_template: how a token is put to the encoder, with `{}` in its place.
        keep_checkpoints: of the last epochs; the best one stays, too. none: of all epochs.
        cache_dir: base embeddings, which several runs may share, one after another; left out, in the run.
        track: tensorboard or wandb: write the history for it, too, in a folder of the run; nothing is sent.
    """

    data: DataConfig
    output_dir: Path
    tokens: Path | None = None
    encoder: str = "minilm"
    epochs: int = 3
    batch_size: int = 256
    local_steps: int = 1
    lr: float | None = None
    val_fraction: float = 0.05
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    keep: Keep = "best"
    device: Device = "auto"
    dropout: float = 0.1
    start: Start = "teacher"
    label_weight: float = 0.0
    token_template: str = PLAIN_TEMPLATE
    keep_checkpoints: int | None = 2
    cache_dir: Path | None = None
    track: TrackerName | None = None

    def __post_init__(self) -> None:
        checks = {
            f"--epochs must be 1 or more, got {self.epochs}": self.epochs >= 1,
            f"--batch-size must be 1 or more, got {self.batch_size}": self.batch_size >= 1,
            f"--local-steps must be 1 or more, got {self.local_steps}": self.local_steps >= 1,
            f"--lr must be above 0 and at most 1, got {self.lr}": self.lr is None or 0 < self.lr <= 1,
            f"--val-fraction must be above 0 and below 1, got {self.val_fraction}": 0 < self.val_fraction < 1,
            f"--seed must be between 0 and 2^63 - 1, got {self.seed}": 0 <= self.seed < 2**63,
            f"--dropout must be 0 or more and below 1, got {self.dropout}": 0 <= self.dropout < 1,
            f"--device must be one of {', '.join(DEVICES)}, got {self.device}": self.device in DEVICES,
            f"--keep must be one of {', '.join(KEEP_CHOICES)}, got {self.keep}": self.keep in KEEP_CHOICES,
            "--overwrite starts again and --resume goes on: give one": not (self.resume and self.overwrite),
            f"--start must be one of {', '.join(STARTS)}, got {self.start}": self.start in STARTS,
            f"--keep-checkpoints must be 1 or more, got {self.keep_checkpoints}": self.kept >= 1,
            f"--track must be one of {', '.join(TRACKERS)}, got {self.track}": self.track
            in (None, *TRACKERS),
            f"--label-weight must be between 0 and 1, got {self.label_weight}": 0 <= self.label_weight <= 1,
            f"--token-template must have {PLAIN_TEMPLATE} once and at most {MAX_TEMPLATE} characters, got "
            f"{self.token_template!r:.60}": is_template(self.token_template),
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(message)

    @property
    def kept(self) -> int:
        """Checkpoints of the last epochs that stay."""
        return self.epochs if self.keep_checkpoints is None else self.keep_checkpoints

    @property
    def first_lr(self) -> float:
        return DEFAULT_LR[self.start] if self.lr is None else self.lr

    @property
    def last_lr(self) -> float:
        return min(FINAL_LR, self.first_lr)

    @property
    def adam_eps(self) -> float:
        return ADAM_EPS[self.start]


@dataclass(frozen=True)
class EvaluateConfig:
    """What `pt evaluate` is asked.

    Attributes:
        data: what to read; texts without labels are left out.
        map: a JSON object, from each label of the data to a token or a list of tokens, empty for a label to
            leave out; where there is none, labels are tokens.
        seed: of the draws of chance.
        allow_remote_encoder: send texts away for a run that was not made here and whose encoder is hosted.
    """

    data: DataConfig
    map: Path | None = None
    seed: int = 0
    allow_remote_encoder: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed must be between 0 and 2^63 - 1, got {self.seed}")


def is_template(value: object) -> bool:
    """Whether a token can be put in it, in one place; all else stands as it is."""
    return isinstance(value, str) and len(value) <= MAX_TEMPLATE and value.count(PLAIN_TEMPLATE) == 1


def as_put(tokens: Sequence[str], template: str) -> list[str]:
    """Tokens as the encoder is given them."""
    return [template.replace(PLAIN_TEMPLATE, token) for token in tokens]
