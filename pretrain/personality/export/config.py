"""What `pt export` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError
from pretrain.coreml.targets import PRECISIONS, TARGETS, Precision, Target
from pretrain.personality.rules.family import PARTS

EncoderWeights = Literal["int8", "float16", "float32"]
ENCODER_WEIGHTS: Final = get_args(EncoderWeights)


@dataclass(frozen=True)
class ExportConfig:
    """One run of `pt export`.

    Attributes:
        run: the folder that `pt pretrain` wrote.
        out: the bundle: a new folder, or an earlier bundle, which is replaced once the new one is whole.
        target: the least iOS that the app supports; iOS18 adds the stateful package.
        precision: of the weights and the arithmetic of the ML Programs; a head that Core ML can
            update is float32 in any case.
        encoder_weights: of the text encoder.
        only: parts; None for all that the target and the run's encoder have.
        head: that pt grpo made from the run, in place of its own.
    """

    run: Path
    out: Path
    target: Target = "iOS17"
    precision: Precision = "float32"
    encoder_weights: EncoderWeights = "int8"
    only: tuple[str, ...] | None = None
    head: Path | None = None

    def __post_init__(self) -> None:
        _require_one_of("--target", self.target, TARGETS)
        _require_one_of("--precision", self.precision, PRECISIONS)
        _require_one_of("--encoder-weights", self.encoder_weights, ENCODER_WEIGHTS)
        for part in self.only or ():
            _require_one_of("--only", part, tuple(PARTS))
        if self.only is not None and not self.only:
            raise ConfigError("--only must name a part; leave it out for all of them")
        if "stateful" in (self.only or ()) and self.target != "iOS18":
            raise ConfigError("--only stateful needs --target iOS18: state buffers came with iOS 18")
        run, out = self.run.resolve(), self.out.resolve()
        if run == out or out in run.parents or run in out.parents:
            raise ConfigError(f"--out must lie outside of the run {self.run}, and not contain it: {self.out}")

    @property
    def parts(self) -> tuple[str, ...]:
        """Asked for, in the order of PARTS; a run without a local encoder has no `encoder`."""
        wanted = PARTS if self.only is None else self.only
        return tuple(p for p in PARTS if p in wanted and (p != "stateful" or self.target == "iOS18"))


def _require_one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")
