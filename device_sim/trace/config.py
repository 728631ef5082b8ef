"""What `pt trace` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.coreml.limits import MODEL_MIB, SECONDS
from personality_common.errors import ConfigError

AGAINST: Final = ("float16", "int8", "torch")


@dataclass(frozen=True)
class TraceConfig:
    """What to trace, and how much of it to show.

    Attributes:
        package: `.mlpackage` or `.mlmodel`.
        input: `.npz` or `.json`, arrays by the names of inputs.
        against: one of `AGAINST`; see `device_sim.trace.trace`.
        top: ops to show.
        max_model_mib: of the protobuf.
        max_seconds: of each of the two evaluations.
    """

    package: Path
    input: Path
    against: str = "float16"
    top: int = 20
    max_model_mib: int = MODEL_MIB
    max_seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.against not in AGAINST:
            raise ConfigError(f"--against must be one of {', '.join(AGAINST)}, got {self.against!r}")
        if self.top < 1:
            raise ConfigError(f"--top must be 1 or more, got {self.top}")
        if self.max_model_mib < 1:
            raise ConfigError(f"--max-model-mib must be 1 or more, got {self.max_model_mib}")
        if not self.max_seconds > 0:
            raise ConfigError(f"--max-seconds must be above 0, got {self.max_seconds}")
