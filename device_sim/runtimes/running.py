"""`pt run`: one package, one file of inputs, one file of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from device_sim.mil import Limits
from device_sim.mil.types import Array
from device_sim.runtimes.arrays import read_arrays, write_arrays
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.coreml import CoreMLRuntime
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.results import require_arrays, write_rows
from device_sim.runtimes.rows import Row, read_rows
from device_sim.runtimes.with_head import with_head
from personality_common.coreml.features import Feature, features, interface
from personality_common.coreml.limits import Limits as PackageLimits
from personality_common.coreml.package import Package
from personality_common.errors import DataError, ToolkitError
from personality_common.terminal.progress import SILENT, Reporter


@dataclass(frozen=True)
class RunResult:
    """What came out."""

    rows: tuple[dict[str, Any], ...]
    """Of each row of inputs, the outputs by name."""
    zero_states: tuple[str, ...]
    """State buffers that nothing filled."""

    @property
    def outputs(self) -> dict[str, Any]:
        """Of the last row."""
        return self.rows[-1]


def run_package(config: RunConfig, reporter: Reporter = SILENT) -> RunResult:
    """Evaluate a package on the rows of a file, and write its outputs to another.

    State buffers that neither `--state` nor an array of the inputs fills are zero, as on a device.

    Raises:
        DataError: a package or a file of inputs that is malformed, or inputs that the package does
            not take.
        MismatchError: the head is of another run, or not where it can be replaced.
        ToolkitError: the runtime is not available here.
    """
    if config.head is not None:
        with with_head(config.package, config.head) as package:
            return run_package(replace(config, package=package, head=None), reporter)
    package_limits = PackageLimits(model_bytes=config.max_model_mib << 20)
    runtime = (
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
    inputs = features(description.input)
    states = {feature.name: feature for feature in features(description.state)}
    if both := sorted({feature.name for feature in inputs} & states.keys()):
        raise DataError(f"{config.package}: {both[0]!r} is both an input and a state")
    if not states and (config.state or config.state_out):
        raise DataError(f"{config.package}: the model has no state for --state and --state-out")
    rows = read_rows(config.input, inputs, tuple(states.values()), config.steps)
    if states and len(rows) > 1 and not config.steps:
        raise DataError(
            f"{config.input}: has {len(rows)} rows, and the model a state: --steps makes steps of them"
        )
    filled = _filled(config, states, rows)
    model = runtime.load(config.package, filled)
    zero = tuple(sorted(states.keys() - filled.keys()))
    if zero:
        reporter.warn(f"states {', '.join(zero)} are zero: neither --state nor the inputs fill them")
    found = []
    for at, row in enumerate(rows, 1):
        try:
            found.append(model.predict(row))
        except DataError as error:
            if len(rows) == 1:
                raise
            raise DataError(f"{config.input}, row {at}: {error}") from error
        if config.output.suffix == ".npz":
            require_arrays(config.output, found[-1])
    write_rows(config.output, found)
    if config.state_out is not None:
        write_arrays(config.state_out, model.read_states())
    return RunResult(tuple(found), zero)


def _filled(config: RunConfig, states: Mapping[str, Feature], rows: list[Row]) -> dict[str, Array]:
    """State buffers to begin with: all of them from `--state`, or those of the first row, which it loses."""
    for at, row in enumerate(rows[1:], 2):
        if given := sorted(states.keys() & row.keys()):
            raise DataError(
                f"{config.input}, row {at}: holds the state {given[0]!r}, which the first row alone may"
            )
    filled = {name: rows[0].pop(name) for name in list(rows[0]) if name in states}
    if config.state is None:
        return filled
    if filled:
        raise DataError(
            f"state {next(iter(filled))!r} is in {config.input} and in {config.state}: one of them"
        )
    return read_arrays(config.state, states.values())
