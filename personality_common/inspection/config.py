"""What `pt inspect` and `pt diff` are asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personality_common.coreml.limits import MODEL_MIB, Limits
from personality_common.errors import ConfigError


@dataclass(frozen=True)
class InspectConfig:
    """One run of `pt inspect`.

    Attributes:
        path: a bundle, an `.mlpackage`, an `.mlmodel`, an `.onnx` file, or a run.
        weights: add the table of tensors with their fingerprints.
        cost: add what a prediction costs: operations, multiply-adds, bytes moved, peak memory; per op, too.
        max_model_mib: refuse a model whose protobuf is larger; weight files do not count.
    """

    path: Path
    weights: bool = False
    cost: bool = False
    max_model_mib: int = MODEL_MIB

    def __post_init__(self) -> None:
        _require_positive(self.max_model_mib)

    @property
    def limits(self) -> Limits:
        return Limits(model_bytes=self.max_model_mib << 20)


@dataclass(frozen=True)
class DiffConfig:
    """One run of `pt diff`.

    Attributes:
        a, b: two `.mlpackage` or `.mlmodel`, or two bundles.
        max_model_mib: refuse a model whose protobuf is larger; weight files do not count.
    """

    a: Path
    b: Path
    max_model_mib: int = MODEL_MIB

    def __post_init__(self) -> None:
        _require_positive(self.max_model_mib)

    @property
    def limits(self) -> Limits:
        return Limits(model_bytes=self.max_model_mib << 20)


def _require_positive(mib: int) -> None:
    if mib < 1:
        raise ConfigError(f"--max-model-mib must be 1 or more, got {mib}")
