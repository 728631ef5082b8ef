"""`pt run`: one package, one file of inputs, one file of outputs."""

from __future__ import annotations

from dataclasses import dataclass

from device_sim.mil import Limits
from device_sim.runtimes.arrays import read_arrays, write_arrays
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.coreml import CoreMLRuntime
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import Array, Runtime
from personality_common.coreml.features import features, interface
from personality_common.coreml.limits import Limits as PackageLimits
from personality_common.coreml.package import Package
from personality_common.errors import DataError, ToolkitError
from personality_common.terminal.progress import SILENT, Reporter


@dataclass(frozen=True)
class RunResult:
    """What came out."""

    outputs: dict[str, Array]
    zero_states: tuple[str, ...]
    """State buffers that the inputs did not fill."""


def run_package(config: RunConfig, reporter: Reporter = SILENT) -> RunResult:
    """Evaluate a package on the arrays of a file, and write its outputs to another.

    An array with the name of a state buffer fills it; the other buffers are zero, as on a device.

    Raises:
        DataError: a package or a file of inputs that is malformed, or inputs that the package does
            not take.
        ToolkitError: the runtime is not available here.
    """
    package_limits = PackageLimits(model_bytes=config.max_model_mib << 20)
    runtime: Runtime = (
        MilRuntime(
            limits=Limits(seconds=config.max_seconds),
            package_limits=package_limits,
            function=config.function,
        )
        if config.runtime == "mil"
        else CoreMLRuntime(package_limits=package_limits, function=config.function)
    )
    if reason := runtime.unavailable():
        raise ToolkitError(f"--runtime {config.runtime} is not available here: {reason}")
    description = interface(Package.open(config.package, package_limits), config.function)
    inputs = {feature.name for feature in features(description.input)}
    states = {feature.name: feature for feature in features(description.state)}
    if both := sorted(inputs & states.keys()):
        raise DataError(f"{config.package}: {both[0]!r} is both an input and a state")
    arrays = read_arrays(config.input, features(description.input), states.values())
    filled = {name: array for name, array in arrays.items() if name in states}
    model = runtime.load(config.package, filled)
    zero = tuple(sorted(states.keys() - filled.keys()))
    if zero:
        reporter.warn(f"states {', '.join(zero)} are zero: the inputs have no array of that name")
    outputs = model.predict({name: array for name, array in arrays.items() if name in inputs})
    write_arrays(config.output, outputs)
    return RunResult(outputs, zero)
