"""Which runtimes there are, and what `pt run` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from personality_common.coreml.limits import MODEL_MIB, SECONDS
from personality_common.errors import ConfigError

RuntimeChoice: TypeAlias = Literal["mil", "coreml", "torch"]
RUNTIME_CHOICES: Final = get_args(RuntimeChoice)
RUNTIMES: Final = ("mil", "coreml")
"""Those that run any package; `torch` knows the personality model alone."""


@dataclass(frozen=True)
class RunConfig:
    """One run of a package.

    Attributes:
        package: `.mlpackage` or `.mlmodel`.
        input: `.npz` or `.json`, arrays by the names of inputs (and of state buffers).
        output: `.npz`, which is replaced.
        runtime: `mil`, the interpreter, or `coreml`.
        max_model_mib: of the protobuf.
        max_seconds: of loading the package, and of evaluating it; the interpreter's.
    """

    package: Path
    input: Path
    output: Path
    runtime: str = "mil"
    max_model_mib: int = MODEL_MIB
    max_seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise ConfigError(f"--runtime must be one of {', '.join(RUNTIMES)}, got {self.runtime!r}")
        if self.output.suffix != ".npz":
            raise ConfigError(f"--output must be a .npz file, got {self.output}")
        if self.max_model_mib < 1:
            raise ConfigError(f"--max-model-mib must be 1 or more, got {self.max_model_mib}")
        if not self.max_seconds > 0:
            raise ConfigError(f"--max-seconds must be above 0, got {self.max_seconds}")
