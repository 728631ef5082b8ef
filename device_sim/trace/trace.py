"""Which op of a package loses the precision: evaluate it op by op twice, and compare.

Each op is computed three times: by the reference, by the candidate on the reference's inputs (the
error that this op *adds*), and by the candidate on its own inputs (the error that has
*accumulated* up to here). Inputs of the reference are rounded to what the candidate keeps before
the candidate's op sees them, so an op that magnifies the rounding of its inputs, such as a
difference of nearly equal numbers, is charged with it.

`float16`: float64 against the policy `float16`: every input, weight and result rounded to
float16, each op computed in float32. What overflows inside of an op (the squares of a
normalization) is not seen.
`int8`: the policy `exact` (float32) with and without the weights that `device_sim.trace.int8`
quantizes.
`torch`: the policy `exact` against torch's version of each op that `device_sim.trace.torch_ops` has.

States of a stateful model are zeros, as `MLModel.newState()` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sim.mil import Evaluator, Limits, Model, NetworkModel, PipelineModel, ProgramModel, load_mil
from device_sim.mil.features import check_inputs
from device_sim.mil.state import State
from device_sim.mil.step import Step
from device_sim.mil.types import Array
from device_sim.trace.int8 import quantized_networks, quantized_step
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, DataError

AGAINST: Final = ("float16", "int8", "torch")
FLOAT16_MAX: Final = 65504.0
NOT_COMPARED: Final = "not compared"


@dataclass(frozen=True)
class TraceConfig:
    """What to trace, and how much of it to show."""

    package: Path
    input: Path
    against: str = "float16"
    top: int = 20

    def __post_init__(self) -> None:
        if self.against not in AGAINST:
            raise ConfigError(f"--against must be one of {', '.join(AGAINST)}, got {self.against!r}")
        if self.top < 1:
            raise ConfigError(f"--top must be 1 or more, got {self.top}")


@dataclass(frozen=True)
class Error:
    """How far a tensor is from the reference's."""

    max_abs: float
    relative: float
    """Root mean square of the difference, over that of the reference; inf where the reference is
    zero, or where the tensor is not finite and the reference is."""


@dataclass(frozen=True)
class OpTrace:
    """One output of one op."""

    model: str
    """Submodel of a pipeline, or empty."""
    position: int | None
    """Of the op in the program, or of the layer in the network; None for an input of the model."""
    op: str
    """Its type; `input` for the rounding of an input."""
    output: str
    shape: tuple[int, ...]
    low: float
    high: float
    """Range of the reference's finite values; 0 and 0 if there are none."""
    added: Error | None
    """None where `note` says why."""
    accumulated: Error
    overflow: str
    """`here`: it leaves the range of float16 in this op. `before`: what an earlier op overflowed
    arrives here. Empty: neither."""
    note: str = ""


def trace_package(
    package: Package | Path, inputs: Mapping[str, Any], against: str = "float16", limits: Limits | None = None
) -> Iterator[OpTrace]:
    """Evaluate a package op by op against a lower precision, or against torch.

    Args:
        package: an ML Program, a neural network, or a pipeline of them.
        inputs: by feature name, as `Model.predict` takes them.
        against: `float16`, `int8` or `torch`; see above.

    Yields:
        One record per value, in the order of computing; `by_added` and `by_accumulated` rank them.

    Raises:
        ConfigError: an unknown `against`.
        DataError: a package that cannot be run here, or inputs that do not fit.
    """
    if against not in AGAINST:
        raise ConfigError(f"against must be one of {', '.join(AGAINST)}, got {against!r}")
    package = package if isinstance(package, Package) else Package.open(package)
    reference = load_mil(package, "float64" if against == "float16" else "exact", limits)
    return _trace(reference, _candidate(package, against, limits), inputs, inputs, against, "")


def by_added(records: list[OpTrace]) -> list[OpTrace]:
    """Worst first: ops that overflow in the order of the program, then by the relative error added."""

    def key(record: OpTrace) -> tuple[bool, float]:
        here = record.overflow == "here"
        return not here, 0.0 if here else -record.added.relative if record.added else 1.0

    return sorted(records, key=key)


def by_accumulated(records: list[OpTrace]) -> list[OpTrace]:
    """Worst first, by the relative error that has accumulated."""
    return sorted(records, key=lambda record: -record.accumulated.relative)


def _candidate(package: Package, against: str, limits: Limits | None) -> Model:
    if against == "float16":
        return load_mil(package, "float16", limits)
    if against == "int8":
        return _rebuilt(load_mil(quantized_networks(package), "exact", limits), against)
    return _rebuilt(load_mil(package, "exact", limits), against)


def _rebuilt(model: Model, against: str) -> Model:
    """The same programs with their steps exchanged for the candidate's."""
    if isinstance(model, PipelineModel):
        for part in model.parts:
            _rebuilt(part, against)
    elif isinstance(model, ProgramModel):
        program = model.evaluator.program
        exchange = quantized_step if against == "int8" else _torch_step
        program = replace(program, steps=tuple(exchange(step) for step in program.steps))
        model.evaluator = Evaluator(program, model.policy, model.limits)
    return model


def _torch_step(step: Step) -> Step:
    from device_sim.trace.torch_ops import TorchKernel

    return replace(step, op=replace(step.op, kernel=TorchKernel(step.op)))


@dataclass(frozen=True)
class _Node:
    """An op or a layer."""

    position: int
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: Any


class _Side:
    """A program or a network under one policy, one op at a time."""

    def __init__(self, model: Model) -> None:
        assert isinstance(model, (ProgramModel, NetworkModel))
        self.model = model
        self.nodes = (
            [
                _Node(s.position, s.op.name, s.inputs, tuple(o.name for o in s.outputs), s)
                for s in model.evaluator.program.steps
            ]
            if isinstance(model, ProgramModel)
            else [
                _Node(layer.position, layer.type, layer.inputs, (layer.output,), layer)
                for layer in model.network.layers
            ]
        )

    def enter(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The model's inputs in the types that its policy keeps."""
        checked = check_inputs(self.model.inputs, inputs)
        if isinstance(self.model, NetworkModel):
            return self.model.network.enter(checked)
        declared = self.model.evaluator.program.inputs
        kept = {name: self.model.policy.kept(declared[name].type.dtype) for name in checked}
        with np.errstate(all="ignore"):
            return {name: value.astype(kept[name]) for name, value in checked.items()}

    def run(self, node: _Node, values: Mapping[str, Array], state: State) -> dict[str, Array]:
        try:
            if isinstance(self.model, ProgramModel):
                return self.model.evaluator.run_step(node.source, values, state)
            return {node.outputs[0]: self.model.network.run_layer(node.source, values)}
        except DataError as error:
            raise DataError(f"{self.model.where}: {error}") from error


def _trace(
    reference: Model,
    candidate: Model,
    reference_inputs: Mapping[str, Any],
    candidate_inputs: Mapping[str, Any],
    against: str,
    label: str,
) -> Iterator[OpTrace]:
    if isinstance(reference, PipelineModel) and isinstance(candidate, PipelineModel):
        known, own = dict(reference_inputs), dict(candidate_inputs)
        for name, part, other in zip(reference.names, reference.parts, candidate.parts, strict=True):
            taken = {feature.name: known[feature.name] for feature in part.inputs}
            own_taken = {feature.name: own[feature.name] for feature in part.inputs}
            yield from _trace(part, other, taken, own_taken, against, f"{label}/{name}" if label else name)
            known |= part.predict(taken)
            own |= other.predict(own_taken)
    else:
        # Holds the whole model against the limits; single ops are held against them one by one.
        reference.predict(reference_inputs, reference.new_state())
        yield from _ops(
            _Side(reference), _Side(candidate), reference_inputs, candidate_inputs, against, label
        )


def _ops(
    reference: _Side,
    candidate: _Side,
    reference_inputs: Mapping[str, Any],
    candidate_inputs: Mapping[str, Any],
    against: str,
    label: str,
) -> Iterator[OpTrace]:
    known, own = reference.enter(reference_inputs), candidate.enter(candidate_inputs)
    # Writes to states are replayed: the second holds what the candidate keeps of the reference's.
    states = [side.model.new_state() for side in (reference, candidate, candidate)]
    beyond: set[str] = set()  # what float16 cannot hold, however it is computed
    if against == "float16" and not label:
        for name, value in known.items():
            if _lost(value, own[name]):
                beyond.add(name)
            yield _record((label, None, "input", name), (value, own[name], own[name]), against)
    last = {name: i for i, node in enumerate(reference.nodes) for name in node.inputs}
    for i, (node, twin) in enumerate(zip(reference.nodes, candidate.nodes, strict=True)):
        expected = reference.run(node, known, states[0])
        added = candidate.run(twin, known, states[1])
        accumulated = candidate.run(twin, own, states[2])
        if against == "torch" and not getattr(_kernel(twin), "compared", False):
            added = {}
        fed = not beyond.isdisjoint(node.inputs)
        reached = any(_lost(known[name], own[name]) for name in node.inputs)
        for name in node.outputs:
            place = (label, node.position, node.op, name)
            values = (expected[name], added.get(name), accumulated[name])
            yield _record(place, values, against, fed, reached)
            if against == "float16" and _lost(expected[name], _float16(expected[name])):
                beyond.add(name)
        known |= expected
        own |= accumulated
        for name in {*node.inputs, *node.outputs}:
            if last.get(name, i) <= i:
                del known[name], own[name]


def _kernel(node: _Node) -> Any:
    return node.source.op.kernel if isinstance(node.source, Step) else None


def _record(
    place: tuple[str, int | None, str, str],
    values: tuple[Array, Array | None, Array],
    against: str,
    fed: bool = False,
    reached: bool = False,
) -> OpTrace:
    """Compare a value with the reference's.

    Args:
        place: model, position, op, output.
        values: the reference's; the candidate's on the reference's inputs, None if it does not
            compute this op in its own way; the candidate's on its own inputs.
        fed: float16 cannot hold one of the op's inputs.
        reached: one of the candidate's own inputs has overflowed.
    """
    expected, added, accumulated = values
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else expected
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    beyond = against == "float16" and expected.dtype.kind == "f" and max(-low, high) > FLOAT16_MAX
    overflow = note = ""
    if beyond or (not fed and added is not None and _lost(expected, added)):
        overflow = "here"
    elif fed or reached or _lost(expected, accumulated):
        overflow = "before"
    if added is None:
        note = NOT_COMPARED
    elif fed:
        added, note = None, "an input of it overflows"
    error = None if added is None else error_of(expected, added)
    total = error_of(expected, accumulated)
    return OpTrace(*place, expected.shape, low, high, error, total, overflow, note)


def _lost(expected: Array, got: Array) -> bool:
    """Whether a value is not finite where the reference is."""
    return got.dtype.kind == "f" and bool(np.any(np.isfinite(expected) & ~np.isfinite(got)))


def _float16(value: Array) -> Array:
    with np.errstate(over="ignore"):
        return value.astype(np.float16) if value.dtype.kind == "f" else value


def error_of(expected: Array, got: Array) -> Error:
    """The error of `got`; equal infinities, and places where the reference is NaN, have none."""
    with np.errstate(all="ignore"):
        x, y = expected.astype(np.float64), got.astype(np.float64)
        difference = np.where((x == y) | np.isnan(x), 0.0, np.abs(x - y))
        difference[np.isnan(difference)] = np.inf
        scale = _rms(x[np.isfinite(x)])
        size = _rms(difference)
        relative = 0.0 if size == 0 else size / scale if scale else np.inf
    return Error(float(difference.max(initial=0.0)), float(relative))


def _rms(values: Array) -> float:
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean(np.square(values / largest))))
