"""Which runtimes there are, and what `pt run` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from personality_common.coreml.limits import MODEL_MIB, SECONDS
from personality_common.errors import ConfigError

RuntimeChoice: TypeAlias = Literal["mil", "coreml", "torch"]
RUNTIME_CHOICES: Final = get_args(RuntimeChoice)
PackageRuntime: TypeAlias = Literal["mil", "coreml"]
RUNTIMES: Final = get_args(PackageRuntime)
"""Those that run any package; `torch` knows the personality model alone."""


@dataclass(frozen=True)
class RunConfig:
    """One run of a package.

    Attributes:
        package: `.mlpackage` or `.mlmodel`.
        input: arrays by the names of the package's inputs (one with a state buffer's name fills it); rows of
            values, as .json, .jsonl or .csv; or an image, as FILE or name=FILE.
        output: outputs by name; a file there is replaced. Texts and dictionaries are for .json and .jsonl.
        state: all state buffers to begin with, by name, as --state-out writes them.
        state_out: where to write the state buffers after the last row.
        steps: rows are steps of one state, one after the other; arrays have them along their first axis.
        function: of a package of several; None for the default one.
        head: that pt grpo made, in place of the package's own, which must be in its bundle and is only read.
        runtime: the interpreter, or Core ML itself (macOS).
        max_model_mib: refuse a model whose protobuf is larger; weight files do not count.
        max_seconds: stop when loading the model, or evaluating it once, takes longer.
    """

    package: Path
    input: Path
    output: Path
    runtime: PackageRuntime = "mil"
    head: Path | None = None
    state: Path | None = None
    state_out: Path | None = None
    steps: bool = False
    function: str | None = None
    max_model_mib: int = MODEL_MIB
    max_seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise ConfigError(f"--runtime must be one of {', '.join(RUNTIMES)}, got {self.runtime!r}")
        if self.output.suffix not in (".npz", ".json", ".jsonl"):
            raise ConfigError(f"--output must be a .npz, .json or .jsonl file, got {self.output}")
        for option, file in (("--state", self.state), ("--state-out", self.state_out)):
            if file is not None and file.suffix != ".npz":
                raise ConfigError(f"{option} must be a .npz file, got {file}")
        if self.state_out is not None and self.state_out.absolute() == self.output.absolute():
            raise ConfigError(f"--output and --state-out must be two files, got {self.output} twice")
        if self.max_model_mib < 1:
            raise ConfigError(f"--max-model-mib must be 1 or more, got {self.max_model_mib}")
        if not self.max_seconds > 0:
            raise ConfigError(f"--max-seconds must be above 0, got {self.max_seconds}")
