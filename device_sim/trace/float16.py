"""A program as coremltools' float16 conversion would have it, for `pt trace --against float16`.

An op reads its floats rounded to float16, computes in float32, and rounds what it gives; constants, scalars
too, are rounded once. As coremltools 9 does it (`compute_precision=FLOAT16`, its pass `add_fp16_cast`):

- a constant of 1e38 or more becomes infinite (masks are meant so); one between 65504 and that keeps the
  whole op in float32;
- of a constant of fewer than 400 numbers, what would become 0 becomes the least number of float16, 6e-8;
- casts, states and lists stay as they are, and from iOS 17 on `epsilon`, `alpha` and `beta` of the ops below.

One thing is not coremltools': a float that stands for an integer (it is cast to one, or was cast from one, or
indexes a layer's table) stays exact while it is only moved or compared. A converter that moves ids in
float16 looks up other rows, which is no matter of precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from device_sim.mil.program import Program
from device_sim.mil.registry import OPSETS
from device_sim.mil.step import Step
from device_sim.mil.types import Array

FLOAT16_MAX: Final = 65504.0
_MEANT_INFINITE: Final = 1e38
_SMALL_CONSTANT: Final = 400
_LEAST: Final = np.nextafter(np.float16(0), np.float16(1))

_LEFT: Final = frozenset(
    {"cast", "while_loop", "cond", "make_list", "list_gather", "list_scatter", "list_read", "list_write"}
    | {"list_length", "read_state", "coreml_update_state", "write_state"}
)
_MIXED: Final = {
    **dict.fromkeys(("elu", "leaky_relu", "prelu", "thresholded_relu"), ("alpha",)),
    **dict.fromkeys(
        ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard", "softplus_parametric"),
        ("alpha", "beta"),
    ),
    **dict.fromkeys(("inverse", "log", "rsqrt"), ("epsilon",)),
}
"""Parameters that stay float32 from iOS 17 on."""

_MOVES: Final = frozenset(
    (
        "identity", "reshape", "reshape_like", "transpose", "squeeze", "expand_dims", "slice_by_index",
        "slice_by_size", "concat", "stack", "split", "tile", "reverse", "flatten2d", "select", "gather",
        "gather_along_axis", "gather_nd",
        "copy", "permute", "reshapeStatic", "reshapeLike", "reshapeDynamic", "rankPreservingReshape",
        "flatten", "flattenTo2D", "expandDims", "slice", "sliceStatic", "sliceDynamic", "concatND", "splitND",
        "gatherND", "gatherAlongAxis",
    )
)  # fmt: skip
"""Ops and layers that give the numbers that they get."""
_COMPARISONS: Final = frozenset(
    (
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
        "notEqual", "lessThan", "lessEqual", "greaterThan", "greaterEqual",
    )
)  # fmt: skip
_INDICES: Final = {
    **dict.fromkeys(("embedding", "embeddingND", "oneHot", "fillDynamic"), slice(0, 1)),
    **dict.fromkeys(("gather", "gatherND", "gatherAlongAxis", "scatter", "scatterND"), slice(1, 2)),
    **dict.fromkeys(("scatterAlongAxis", "broadcastToDynamic", "reshapeDynamic", "tile"), slice(1, 2)),
    **dict.fromkeys(("sliceDynamic", "topK", "constantPad"), slice(1, None)),
    "rangeDynamic": slice(0, None),
}
"""Inputs of layers that are indices or shapes: floats in networks. Those of ML Programs are integers."""


def convert(program: Program) -> Program:
    """The program with float16 in the place of float32, as the module says; it is evaluated in float32."""
    exact = _exact(program)
    known: dict[int, tuple[Array, Array]] = {}

    def each(steps: Iterable[Step]) -> tuple[Step, ...]:
        found = []
        for step in steps:
            blocks = tuple(replace(block, steps=each(block.steps)) for block in step.blocks)
            inside = replace(step, blocks=blocks)
            found.append(
                inside if _stays(step, program.opset, exact) else _converted(inside, program.opset, known)
            )
        return tuple(found)

    return replace(program, steps=each(program.steps))


def rounds(step: Step) -> bool:
    """Whether a step of a converted program reads and gives float16."""
    return isinstance(step.op.kernel, _Rounding)


def rounded_slots(program: Program) -> frozenset[int]:
    """Slots of a converted program that a step reads or gives in float16."""
    found: set[int] = set()
    for step in filter(rounds, program.steps):
        found |= {*step.slots, *(output.slot for output in step.outputs)} - _indices(step)
    return frozenset(found)


def half(value: Array) -> Array:
    """Values rounded to float16, in the type that they had; anything but floats as it is."""
    if value.dtype.kind != "f":
        return value
    with np.errstate(all="ignore"):
        return value.astype(np.float16).astype(value.dtype)


def half_constant(value: Array) -> Array:
    """A constant as the conversion stores it; see the module."""
    rounded = half(value)
    if value.dtype.kind != "f" or value.size >= _SMALL_CONSTANT:
        return rounded
    gone = (rounded == 0) & (value != 0)
    return np.where(gone, np.copysign(_LEAST, value), rounded).astype(value.dtype)


def _stays(step: Step, opset: str, exact: frozenset[int]) -> bool:
    """Whether a step computes what it computed before."""
    if step.op.name in _LEFT:
        return True
    if step.outputs and all(output.slot in exact for output in step.outputs):
        return True
    if step.op.name in _COMPARISONS and not exact.isdisjoint(step.slots):
        return True
    # Of networks, the whole runs in float16 or none of it.
    return bool(opset) and any(_overflows(value) for value in constants(step))


def _overflows(constant: Array) -> bool:
    size = np.abs(constant)
    return bool(np.any((size > FLOAT16_MAX) & (size < _MEANT_INFINITE)))


def constants(step: Step) -> Iterator[Array]:
    """The constant floats that a step reads, scalars too."""
    values = [*step.constants.values(), *(item for _, sources in step.dynamic for item in sources)]
    for value in values:
        if isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
            yield np.asarray(value)


def _converted(step: Step, opset: str, known: dict[int, tuple[Array, Array]]) -> Step:
    """Args: known: constants that were rounded before, by identity, with what keeps them alive."""
    order = list(OPSETS.values())
    newer = opset in order and order.index(opset) >= order.index("iOS17")
    mixed = _MIXED.get(step.op.name, ()) if newer else ()

    def once(value: Any) -> Any:
        if isinstance(value, float):
            return float(half_constant(np.asarray(value, np.float32)))
        if not isinstance(value, np.ndarray):
            return value
        if id(value) not in known:
            rounded = half_constant(value)
            rounded.flags.writeable = False
            known[id(value)] = (value, rounded)
        return known[id(value)][1]

    constants = {k: v if k in mixed else once(v) for k, v in step.constants.items()}
    dynamic = tuple((param, tuple(map(once, sources))) for param, sources in step.dynamic)
    reads = tuple(param.name for param, _ in dynamic if param.name not in mixed)
    kernel = _Rounding(step.op.kernel, reads, _INDICES.get(step.op.name, slice(0)))
    return replace(step, op=replace(step.op, kernel=kernel), constants=constants, dynamic=dynamic)


@dataclass(frozen=True)
class _Rounding:
    """A kernel that reads and gives float16."""

    kernel: Callable[..., Any]
    reads: tuple[str, ...]
    indices: slice
    """Of a layer's inputs, those that stay."""

    def __call__(self, **arguments: Any) -> Any:
        taken = dict(arguments)
        for name in self.reads:
            value = taken[name]
            if isinstance(value, tuple):
                stay = range(len(value))[self.indices]
                taken[name] = tuple(v if i in stay else _read(v) for i, v in enumerate(value))
            elif self.indices.start is None or self.indices.start > 0:
                taken[name] = _read(value)
        results = self.kernel(**taken)
        if isinstance(results, tuple):
            return tuple(half(np.asarray(result)) for result in results)
        return None if results is None else half(np.asarray(results))


def _read(value: Any) -> Any:
    return half(value) if isinstance(value, np.ndarray) else value


def _indices(step: Step) -> set[int]:
    """Slots that a layer takes as indices or sizes."""
    sources = [source for _, sources in step.dynamic for source in sources]
    return {s for s in sources[_INDICES.get(step.op.name, slice(0))] if isinstance(s, int)}


def _exact(program: Program) -> frozenset[int]:
    """Slots of floats that stand for integers, and have gone through nothing but moves."""
    steps = tuple(_nested(program.steps))
    floats = {value.slot for value in program.inputs.values() if value.type.dtype.kind == "f"}
    floats |= {o.slot for step in steps for o in step.outputs if o.type.dtype.kind == "f"}
    wanted: set[int] = set()
    for step in reversed(steps):
        to_integer = step.op.name == "cast" and "int" in str(step.constants.get("dtype"))
        moved = step.op.name in _MOVES and any(output.slot in wanted for output in step.outputs)
        if to_integer or moved:
            wanted |= set(step.slots)
        if not program.opset:
            wanted |= _indices(step)
    exact = {value.slot for value in program.inputs.values() if value.slot in wanted & floats}
    for step in steps:
        read = floats & set(step.slots)
        from_integer = step.op.name == "cast" and not read
        if from_integer or (step.op.name in _MOVES and read and read <= exact):
            exact |= {output.slot for output in step.outputs if output.slot in floats}
    return frozenset(exact)


def _nested(steps: Iterable[Step]) -> Iterator[Step]:
    """All steps in the order of computing; those of a block before the one that it belongs to."""
    for step in steps:
        for block in step.blocks:
            yield from _nested(block.steps)
        yield step
