"""What `pt parity` is asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError

RUNTIMES: Final = ("torch", "mil", "coreml", "onnxruntime", "onnx", "transformers", "llama", "mlx")
"""`onnx` is that project's own evaluator; it and `onnxruntime` are for ONNX files alone, the last three for
language models."""
ComputeUnits = Literal["cpu", "gpu", "ane", "all"]
COMPUTE_UNITS: Final = get_args(ComputeUnits)


@dataclass(frozen=True)
class ParityConfig:
    """One run of `pt parity`.

    Attributes:
        bundle: the folder that `pt export`, `pt character export` or `pt lm export` wrote; only read.
        runtimes: to compare, each of which must be available; None for all that are.
        run: the run that the bundle was made from; PyTorch then has its weights. Without it, those that the
            packages hold, which the golden vectors and fingerprints vouch for.
        head: that pt grpo made from the run, if the bundle was exported with it; needs --run.
        data: conversations whose texts are compared as well; needs --run. The HTML page quotes the texts on
            which runtimes differ most, the JSON has none.
        samples: texts of --data at most.
        compute_units: of Core ML.
        tolerances: name and value; each at least as tight as the manifest's.
    """

    bundle: Path
    runtimes: tuple[str, ...] | None = None
    run: Path | None = None
    head: Path | None = None
    data: str | None = None
    samples: int = 512
    compute_units: ComputeUnits = "cpu"
    tolerances: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name in self.runtimes or ():
            if name not in RUNTIMES:
                raise ConfigError(f"--runtimes must be of {', '.join(RUNTIMES)}, got {name!r}")
        if self.runtimes is not None and not self.runtimes:
            raise ConfigError("--runtimes must name a runtime; leave it out for all that are available")
        if self.compute_units not in COMPUTE_UNITS:
            raise ConfigError(
                f"--compute-units must be one of {', '.join(COMPUTE_UNITS)}, got {self.compute_units!r}"
            )
        if self.samples < 1:
            raise ConfigError(f"--samples must be 1 or more, got {self.samples}")
        if self.head is not None and self.run is None:
            raise ConfigError("--head needs --run: a head is of a run")
        if self.data is not None and self.run is None:
            raise ConfigError("--data needs --run: the run's encoder turns the texts into embeddings")
