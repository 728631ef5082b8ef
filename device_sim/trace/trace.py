"""Which op of a package loses the precision: evaluate it op by op twice, and compare.

Each op is computed three times: by the reference, by the candidate on the reference's inputs (the
error that this op *adds*), and by the candidate on its own inputs (the error that has
*accumulated* up to here). Inputs of the reference are rounded to what the candidate keeps before
the candidate's op sees them, so an op that magnifies the rounding of its inputs, such as a
difference of nearly equal numbers, is charged with it.

`float16`: float64 against what coremltools' float16 conversion makes of the program
(`device_sim.trace.float16`): inputs, constants and results rounded to float16, each op computed in float32.
What overflows inside of an op (the squares of a normalization) is not seen.
`int8`: the policy `exact` (float32) with and without the weights that `device_sim.trace.int8`
quantizes.
`torch`: the policy `exact` against torch's version of each op that `device_sim.trace.torch_ops` has.

States of a stateful model are zeros, as `MLModel.newState()` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from device_sim.mil import (
    Evaluator,
    Limits,
    LinkedModel,
    Model,
    NetworkModel,
    PipelineModel,
    ProgramModel,
    load_mil,
)
from device_sim.mil.features import check_inputs
from device_sim.mil.step import Step
from device_sim.runtimes.rows import read_rows
from device_sim.trace.config import AGAINST, TraceConfig
from device_sim.trace.float16 import FLOAT16_MAX, constants, convert, half, rounded_slots, rounds
from device_sim.trace.int8 import quantized_step
from device_sim.trace.records import Arrived, OpTrace, Place, compare, is_finite, lost
from personality_common.coreml.limits import Limits as PackageLimits
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, DataError

Values = dict[str, Any]


@dataclass(frozen=True)
class Traced:
    """A package on the inputs of a file."""

    records: list[OpTrace]
    """In the order of computing; `by_added` and `by_accumulated` rank them."""
    outputs: tuple[str, ...]
    """Names of the model's."""


def trace_file(config: TraceConfig) -> Traced:
    """Evaluate a package op by op on the one row of a file.

    Raises:
        DataError: as `trace_package`, or a file without one of the inputs, or with several rows.
    """
    package = Package.open(config.package, PackageLimits(model_bytes=config.max_model_mib << 20))
    pair = _load_pair(package, config.against, Limits(seconds=config.max_seconds))
    rows = read_rows(config.input, pair[0].inputs)
    if len(rows) != 1:
        raise DataError(f"{config.input}: a trace is of one row of inputs, this has {len(rows)}")
    records = list(_trace_pair(pair, rows[0], config.against))
    return Traced(records, tuple(feature.name for feature in pair[0].outputs))


def trace_package(
    package: Package | Path, inputs: Mapping[str, Any], against: str = "float16", limits: Limits | None = None
) -> Iterator[OpTrace]:
    """Evaluate a package op by op against a lower precision, or against torch.

    Args:
        package: an ML Program, a neural network, or a pipeline of them.
        inputs: by feature name, as `Model.predict` takes them.
        against: `float16`, `int8` or `torch`; see above.
        limits: of each of the two evaluations; None for the defaults.

    Yields:
        One record per value, in the order of computing.

    Raises:
        ConfigError: an unknown `against`.
        DataError: a package that cannot be run here, or inputs that do not fit.
    """
    if against not in AGAINST:
        raise ConfigError(f"against must be one of {', '.join(AGAINST)}, got {against!r}")
    package = package if isinstance(package, Package) else Package.open(package)
    return _trace_pair(_load_pair(package, against, limits), inputs, against)


def _load_pair(package: Package, against: str, limits: Limits | None) -> tuple[Model, Model]:
    """The reference and the candidate."""
    candidate = load_mil(package, "exact", limits)
    if not _exchange_steps(candidate, against):
        raise DataError(
            f"{package.path}: a trace compares the ops of ML Programs and the layers of networks; "
            f"this is of kind {package.kind}, and has neither"
        )
    return load_mil(package, "float64" if against == "float16" else "exact", limits), candidate


def _exchange_steps(model: Model, against: str) -> bool:
    """Put the candidate's steps in the place of the package's; whether there are any."""
    if isinstance(model, PipelineModel):
        exchanged = [_exchange_steps(part, against) for part in model.parts]
        return any(exchanged)
    if isinstance(model, LinkedModel):
        return _exchange_steps(model.target, against)
    if isinstance(model, ProgramModel):
        evaluator = model.evaluator
        if against == "float16":
            program = convert(evaluator.program)
        elif against == "int8":
            steps = tuple(quantized_step(step) for step in evaluator.program.steps)
            program = replace(evaluator.program, steps=steps)
        elif isinstance(model, NetworkModel):
            return True  # torch's versions are of MIL's ops
        else:
            steps = tuple(_torch_step(step) for step in evaluator.program.steps)
            program = replace(evaluator.program, steps=steps)
        model.evaluator = Evaluator(program, evaluator.policy, evaluator.budget)
    return isinstance(model, ProgramModel)


def _torch_step(step: Step) -> Step:
    from device_sim.trace.torch_ops import TorchKernel

    return replace(step, op=replace(step.op, kernel=TorchKernel(step.op)))


def _trace_pair(pair: tuple[Model, Model], inputs: Mapping[str, Any], against: str) -> Iterator[OpTrace]:
    checked = check_inputs(pair[0].inputs, inputs)
    with pair[0].named():
        whole = pair[0].complete(checked)
    return _trace(*pair, (whole, whole), against, "")


def _trace(
    reference: Model, candidate: Model, inputs: tuple[Values, Values], against: str, label: str
) -> Generator[OpTrace, None, tuple[Values, Values]]:
    """Args: inputs: the reference's and the candidate's own. Returns: the outputs of both."""
    if isinstance(reference, ProgramModel) and isinstance(candidate, ProgramModel):
        return (yield from _ops(reference, candidate, inputs, against, label))
    if isinstance(reference, LinkedModel) and isinstance(candidate, LinkedModel):
        taken = reference.handed(inputs[0]), candidate.handed(inputs[1])
        return (yield from _trace(reference.target, candidate.target, taken, against, label))
    if not isinstance(reference, PipelineModel) or not isinstance(candidate, PipelineModel):
        return reference.predict(inputs[0]), candidate.predict(inputs[1])  # without ops: a tree, an encoder
    known, own = (dict(values) for values in inputs)
    for name, part, other in zip(reference.names, reference.parts, candidate.parts, strict=True):
        with reference.named():
            taken = reference.taken(name, part, known), candidate.taken(name, other, own)
        expected, got = yield from _trace(part, other, taken, against, f"{label}/{name}" if label else name)
        known |= expected
        own |= got
    return known, own


def _ops(
    reference: ProgramModel,
    candidate: ProgramModel,
    inputs: tuple[Values, Values],
    against: str,
    label: str,
) -> Generator[OpTrace, None, tuple[Values, Values]]:
    # Writes to states are replayed: the last one holds what the candidate keeps of the reference's.
    known = reference.start(inputs[0], reference.new_state())
    own = candidate.start(inputs[1], candidate.new_state())
    replayed = candidate.new_state()
    program = candidate.evaluator.program
    rounded = rounded_slots(program) if against == "float16" else frozenset()
    beyond: set[int] = set()  # what float16 cannot hold, however it is computed
    spoiled: set[int] = set()  # what has an infinity or NaN that an op made
    for name, declared in program.inputs.items() if rounded and not label else ():
        expected = known.entered(name)
        got = half(expected) if declared.slot in rounded else expected
        if lost(expected, got):
            beyond.add(declared.slot)
        yield compare(Place(label, None, "input", name), (expected, got, got), Arrived(numbers=(expected,)))
    for step, twin in zip(reference.evaluator.program.steps, program.steps, strict=True):
        read, own_read = known.read(step), own.read(twin)
        with reference.named(), np.errstate(all="ignore"):
            expected_values = known.advance(step)
        with candidate.named(), np.errstate(all="ignore"):
            added = candidate.evaluator.run_step(twin, read, replayed, own.usage)
            accumulated = own.advance(twin)
        compared = against != "torch" or getattr(twin.op.kernel, "compared", False)
        arrived = Arrived(
            fed=rounds(twin) and not beyond.isdisjoint(step.slots),
            reached=any(lost(read[name], own_read[name]) for name in step.inputs),
            spoiled=not spoiled.isdisjoint(step.slots),
            numbers=(*read.values(), *own_read.values(), *constants(step)),
        )
        for output, expected, got in zip(step.outputs, expected_values, accumulated, strict=True):
            place = Place(label, step.position, step.op.name, output.name)
            values = (expected, added[output.name] if compared else None, got)
            found = compare(place, values, arrived, FLOAT16_MAX if output.slot in rounded else math.inf)
            yield found
            if output.slot in rounded and lost(expected, half(expected)):
                beyond.add(output.slot)
            if found.overflow and not (is_finite(expected) and is_finite(got)):
                spoiled.add(output.slot)
    with reference.named():
        end = reference.finish(known)
    with candidate.named():
        return end, candidate.finish(own)
