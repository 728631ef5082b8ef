"""Load an ML Program: every operation resolved, every constant decoded, before anything runs."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

import device_sim.mil.kernels  # noqa: F401  (registers them)
from device_sim.mil.classifier import ProgramClassifier, program_classifier
from device_sim.mil.element_types import check_elements
from device_sim.mil.limits import Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.registry import OPSETS, Kind, Op, Param
from device_sim.mil.resolving import CLASSIFY, check_kernels, kernels, placed
from device_sim.mil.step import MAX_LIST, Block, Output, Step, execute, free_early, plain, where
from device_sim.mil.types import Array, TensorType, tensor_type
from personality_common.coreml.limits import require_at_most
from personality_common.coreml.package import Package
from personality_common.coreml.values import blob_location, read_value
from personality_common.errors import DataError

_CONSTEXPR: Final = "constexpr_"
_GIVEN: Final = (Kind.ACCUMULATOR, Kind.BLOCKS)
"""Kinds of parameters that are no arguments in the program."""


@dataclass(frozen=True)
class Program:
    """A function of an ML Program, or a neural network, ready to run."""

    opset: str
    """`iOS17`; empty for a network."""
    inputs: dict[str, Output]
    states: dict[str, TensorType]
    steps: tuple[Step, ...]
    outputs: dict[str, int | Array]
    """The slot of each output, or its value if it is constant."""
    slots: int
    classifier: ProgramClassifier | None = None
    """Its probabilities are among the outputs."""


def load_program(package: Package, function: str, policy: Policy, usage: Usage) -> Program:
    """Resolve a function of an ML Program, `main` as a rule.

    Args:
        usage: what is counted against the limits; constants that are no views of the weight file are
            held by its budget.

    Raises:
        DataError: an op without a kernel (named with its output and position), an unknown opset,
            names that are undefined or defined twice, malformed constants, or a limit.
    """
    proto = package.spec.mlProgram
    if function not in proto.functions:
        names = ", ".join(sorted(proto.functions)[:8]) or "none"
        raise DataError(f"the program has no function {function!r}; its functions: {names}")
    body = proto.functions[function]
    opset = OPSETS.get(body.opset)
    if opset is None:
        raise DataError(f"opset {body.opset[:80]!r} is unknown; known: {', '.join(OPSETS)}")
    if body.opset not in body.block_specializations:
        raise DataError(f"function {function!r} has no block for its opset {body.opset}")
    block = body.block_specializations[body.opset]
    usage.budget.add_ops(sum(1 for _ in placed(block.operations)) + len(body.inputs), "operations")
    check_kernels(block.operations, opset)
    loader = _Loader(opset, package, policy, usage)
    for value in body.inputs:
        loader.add_input(value)
    loader.add_all(block.operations)
    return loader.finish(list(block.outputs))


@dataclass
class _Loader:
    opset: str
    package: Package
    policy: Policy
    usage: Usage
    names: ChainMap[str, int | Array | str] = field(default_factory=ChainMap)
    """The slot of a value, or a constant; one map for each block that is open, the innermost first."""
    values: list[Output] = field(default_factory=list)
    """By slot."""
    inputs: dict[str, Output] = field(default_factory=dict)
    states: dict[str, TensorType] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    classifier: ProgramClassifier | None = None
    prepared: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    """By identity of the constant: it, kept alive, and what kernels get."""

    def add_input(self, proto: Any) -> None:
        at = f"input {proto.name[:80]!r}"
        if proto.type.WhichOneof("type") == "stateType":
            self._check_new(proto.name, at)
            self.states[proto.name] = tensor_type(proto.type.stateType.wrappedType, at)
        else:
            self.inputs[proto.name] = self._new_value(proto.name, tensor_type(proto.type, at), at)

    def add_all(self, operations: Any) -> None:
        """The operations of a block, in order."""
        for position, (operation, op) in enumerate(
            zip(operations, kernels(operations, self.opset), strict=True)
        ):
            self.add(position, operation, op)

    def add(self, position: int, operation: Any, op: Op | None) -> None:
        names = [output.name for output in operation.outputs]
        at = where(operation.type, position, names)
        if operation.type == CLASSIFY:
            if self.classifier is not None or len(self.names.maps) > 1:
                raise DataError(f"{at}: a program has one, outside of its blocks")
            self.classifier = program_classifier(operation, at)
        elif op is None:
            if len(names) != 1 or "val" not in operation.attributes:
                raise DataError(f"{at}: a constant has one output and an attribute val")
            self._check_new(names[0], at)
            self.names[names[0]] = self._decode(operation.attributes["val"], at)
        elif op.name.startswith(_CONSTEXPR):
            self._fold(self._step(position, operation, op, at), at)
        else:
            self.steps.append(self._step(position, operation, op, at))

    def finish(self, outputs: list[str]) -> Program:
        read = self.classifier
        if read is not None:
            outputs = [
                *(name for name in outputs if name not in (read.label, read.scores)),
                read.probabilities,
            ]
        found = {name: self._value(name, "the program") for name in outputs}
        kept = {slot for slot in found.values() if isinstance(slot, int)}
        return Program(
            self.opset,
            self.inputs,
            self.states,
            free_early(self.steps, kept),
            found,
            len(self.values),
            read,
        )

    def _value(self, name: str, of: str) -> int | Array:
        value = self.names.get(name)
        if value is None or isinstance(value, str):
            raise DataError(f"output {name[:80]!r} of {of} is not a value that it computes")
        return value

    def _block(self, proto: Any, at: str) -> Block:
        """A nested block; what it reads of the blocks around it is captured when it runs."""
        names, steps, first = self.names, self.steps, len(self.values)
        self.names, self.steps = names.new_child(), []
        parameters = tuple(
            self._new_value(value.name, tensor_type(value.type, at), at) for value in proto.inputs
        )
        self.add_all(proto.operations)
        outputs = tuple(self._value(name, f"a block of {at}") for name in proto.outputs)
        kept = {slot for slot in outputs if isinstance(slot, int)}
        read = kept.union(*(step.slots for step in self.steps))
        captured = tuple(sorted(slot for slot in read if slot < first))
        block = Block(parameters, free_early(self.steps, {*kept, *captured}), outputs, captured)
        self.names, self.steps = names, steps
        return block

    def _step(self, position: int, operation: Any, op: Op, at: str) -> Step:
        blocks = tuple(self._block(proto, at) for proto in operation.blocks)
        constants: dict[str, Any] = {}
        dynamic: list[tuple[Param, tuple[int | Array, ...]]] = []
        states: list[tuple[str, str]] = []
        for name, argument in self._arguments(operation, op, at):
            param = op.params[name]
            if param.kind is Kind.STATE:
                states.append((name, self._state(argument, f"{at}: {name}")))
                continue
            sources = [self._source(item, f"{at}: {name}") for item in argument]
            if any(isinstance(source, int) for source in sources) or param.kind is Kind.ARRAYS:
                dynamic.append((param, self._mixed(param, sources, at)))
            elif param.kind is Kind.ARRAY:
                constants[name] = self._array(param, sources, at)
            else:
                constants[name] = self._plain(param, sources, at)
            if param.kind in (Kind.ARRAY, Kind.ARRAYS):
                check_elements(op, name, [self._dtype(source) for source in sources], at)
        given = {*constants, *(param.name for param, _ in dynamic), *(name for name, _ in states)}
        missing = [p.name for p in op.params.values() if p.required and p.kind not in _GIVEN]
        if absent := [name for name in missing if name not in given]:
            raise DataError(f"{at}: argument {absent[0]!r} is missing")
        if op.name.startswith(_CONSTEXPR):
            values = [tensor_type(o.type, f"{at}: output {o.name[:80]!r}") for o in operation.outputs]
            outputs = tuple(Output(o.name, -1, t) for o, t in zip(operation.outputs, values, strict=True))
        else:
            outputs = tuple(
                self._new_value(o.name, tensor_type(o.type, f"{at}: output {o.name[:80]!r}"), at)
                for o in operation.outputs
            )
        step = Step(position, op, at, constants, tuple(dynamic), tuple(states), (), outputs, blocks=blocks)
        read = [self.values[slot] for slot in step.slots]
        known = (*constants.values(), *(source for _, sources in dynamic for source in sources))
        halves = all(value.type.dtype == np.float16 for value in (*read, *outputs)) and not any(
            isinstance(source, np.ndarray)
            for source in known  # which may be of more than float16
        )
        return replace(step, inputs=tuple(value.name for value in read), halves=halves)

    def _arguments(self, operation: Any, op: Op, at: str) -> list[tuple[str, list[Any]]]:
        """Bindings or values by parameter: from inputs, and from attributes as iOS 16 writes them."""
        found = {name: argument.arguments for name, argument in operation.inputs.items()}
        for name, value in operation.attributes.items():
            if name != "name":
                found.setdefault(name, [value])
        for name in found:
            if name not in op.params or op.params[name].kind in _GIVEN:
                takes = ", ".join(p.name for p in op.params.values() if p.kind not in _GIVEN)
                raise DataError(
                    f"{at}: it has no argument {name[:80]!r} in opset {self.opset}; it takes {takes}"
                )
            require_at_most(len(found[name]), MAX_LIST, f"values for {name} of {at}")
        return [(name, list(found[name])) for name in op.params if found.get(name)]

    def _source(self, item: Any, at: str) -> int | Array | str:
        """What a binding, or the value of an attribute, refers to."""
        if not _is_binding(item):
            return self._decode(item, at)
        kind = item.WhichOneof("binding")
        if kind == "value":
            return self._decode(item.value, at)
        value = self.names.get(item.name)
        if kind is None or value is None:
            raise DataError(f"{at}: %{item.name[:80]} is not defined before it is used")
        return value

    def _decode(self, proto: Any, at: str) -> Array | str:
        location, mapped = blob_location(proto), False
        if location is not None:
            entry = self.package.weights(location.file).entry(location.offset)
            mapped = entry.dtype.is_mapped
            if not mapped:
                self.usage.check_value(entry.count, 8, at)
        value = read_value(self.package, proto, at)
        if value.dtype != object:
            self.usage.budget.held += 0 if mapped else value.nbytes
            return value
        if value.ndim:
            raise DataError(f"{at}: one text is expected, got {list(value.shape)}")
        return str(value.item())

    def _state(self, argument: list[Any], at: str) -> str:
        name = argument[0].name if len(argument) == 1 and _is_binding(argument[0]) else ""
        if name not in self.states:
            raise DataError(f"{at}: one of the states {sorted(self.states)} is expected, got {name[:80]!r}")
        return str(name)

    def _mixed(self, param: Param, sources: list[int | Array | str], at: str) -> tuple[int | Array, ...]:
        if param.kind is Kind.ARRAY and len(sources) != 1:
            raise DataError(f"{at}: {param.name} takes one value, got {len(sources)}")
        known: list[int | Array] = []
        for source in sources:
            if isinstance(source, str):
                raise DataError(f"{at}: {param.name} is a text among values")
            is_array = param.kind is Kind.ARRAYS and not isinstance(source, int)
            known.append(self._prepare(source, at) if is_array else source)  # type: ignore[arg-type]
        return tuple(known)

    def _array(self, param: Param, sources: list[int | Array | str], at: str) -> Array:
        if len(sources) != 1 or not isinstance(sources[0], np.ndarray):
            raise DataError(f"{at}: {param.name} must be one array")
        return self._prepare(sources[0], at)

    def _plain(self, param: Param, sources: list[Any], at: str) -> Any:
        try:
            return plain(param, sources)
        except DataError as error:
            raise DataError(f"{at}: {error}") from error

    def _dtype(self, source: int | Array | str) -> np.dtype[Any] | None:
        """Of the elements; None for a text."""
        if isinstance(source, int):
            return self.values[source].type.dtype
        return None if isinstance(source, str) else source.dtype

    def _prepare(self, constant: Array, at: str) -> Array:
        """A constant in the type that kernels compute in; shared by all that use it."""
        known = self.prepared.get(id(constant))
        if known is not None:
            return known[1]
        self.usage.check_value(constant.size, self.policy.compute.itemsize, at)
        prepared = self.policy.constant(constant)
        if prepared is not constant:
            self.usage.budget.held += prepared.nbytes
        prepared.flags.writeable = False
        self.prepared[id(constant)] = (constant, prepared)
        return prepared

    def _fold(self, step: Step, at: str) -> None:
        """Decompress a constant now."""
        if step.dynamic:
            raise DataError(f"{at}: its arguments must be constant")
        with np.errstate(all="ignore"):
            values = execute(step, {}, {}, self.policy, self.usage)
        for output, value in zip(step.outputs, values, strict=True):
            self._check_new(output.name, at)
            self.usage.budget.held += value.nbytes
            self.names[output.name] = value

    def _new_value(self, name: str, type_: TensorType, at: str) -> Output:
        self._check_new(name, at)
        value = Output(name, len(self.values), type_)
        self.values.append(value)
        self.names[name] = value.slot
        return value

    def _check_new(self, name: str, at: str) -> None:
        if not name or name in self.names.maps[0] or name in self.states:
            raise DataError(f"{at}: the name %{name[:80]} is empty or defined twice")


def _is_binding(item: Any) -> bool:
    """Whether an argument is a binding, not a bare value; by name: coremltools has classes of its own."""
    return bool(item.DESCRIPTOR.name == "Binding")
