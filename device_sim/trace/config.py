"""What `pt trace` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.coreml.limits import MODEL_MIB, SECONDS
from personality_common.errors import ConfigError

Against = Literal["float16", "int8", "torch"]
AGAINST: Final = get_args(Against)


@dataclass(frozen=True)
class TraceConfig:
    """What to trace, and how much of it to show.

    Attributes:
        package: `.mlpackage` or `.mlmodel`.
        input: one row of the model's inputs, as `pt run` reads it.
        against: float16: all values and weights, against float64. int8: the weights of matrix products, one
            scale per output channel, against float32. torch: the same ops in torch.
        top: ops to show.
        max_model_mib: refuse a model whose protobuf is larger; weight files do not count.
        max_seconds: stop when loading the model, or either of the two evaluations, takes longer.
    """

    package: Path
    input: Path
    against: Against = "float16"
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
