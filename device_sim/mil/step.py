"""One operation of a loaded program: its kernel with its constants bound, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from device_sim.mil.limits import ITERATION_WORK, Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.registry import Kind, Op, Param
from device_sim.mil.state import StateBuffer
from device_sim.mil.types import Array, TensorType, extent
from personality_common.errors import DataError

MAX_LIST: Final = 1024
"""Entries of a parameter that is a list of numbers: axes, sizes, offsets."""

MISFITS: Final = (ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError)
"""What kernels, and NumPy in them, raise for arguments that do not fit; AxisError and LinAlgError are
ValueErrors. Types are checked when the program is loaded, so anything else (TypeError, KeyError,
AttributeError, …) is a defect of a kernel, and comes out as itself."""


@dataclass(frozen=True, slots=True)
class Output:
    """A value that a step makes."""

    name: str
    slot: int
    type: TensorType


@dataclass(frozen=True, slots=True)
class Block:
    """A block inside of an operation, such as the body of a loop."""

    parameters: tuple[Output, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int | Array, ...]
    """Slots, or constants."""
    captured: tuple[int, ...]
    """Slots of the blocks around it that it reads."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation or a layer, resolved once when the program is loaded."""

    position: int
    """Of the operation in its block, or of the layer in the network."""
    op: Op
    where: str
    """For messages."""
    constants: dict[str, Any]
    """Arguments that are known, as the kernel takes them."""
    dynamic: tuple[tuple[Param, tuple[int | Array, ...]], ...]
    """Arguments made of values: their slots, or constants among them."""
    states: tuple[tuple[str, str], ...]
    """Parameter and name of the state."""
    inputs: tuple[str, ...]
    """Names of the values that it reads, in order, each once."""
    outputs: tuple[Output, ...]
    frees: tuple[int, ...] = ()
    """Slots that nobody reads afterwards."""
    blocks: tuple[Block, ...] = ()
    halves: bool = False
    """Whether all values that it reads and makes are float16."""

    @property
    def name(self) -> str:
        """Name of the first output, or type and position of an op without one."""
        return self.outputs[0].name if self.outputs else f"{self.op.name}_{self.position}"

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of `inputs`."""
        slots = [s for _, sources in self.dynamic for s in sources if isinstance(s, int)]
        return tuple(dict.fromkeys([*slots, *(s for block in self.blocks for s in block.captured)]))


def where(op: str, position: int, outputs: list[str]) -> str:
    """How messages name an operation: its type, first output, and position in the program."""
    output = f" %{outputs[0][:80]}" if outputs else ""
    return f"op {op[:80]}{output} (operation {position})"


def execute(
    step: Step,
    values: Mapping[int, Array],
    states: Mapping[str, StateBuffer],
    policy: Policy,
    usage: Usage,
) -> list[Array]:
    """Compute one step.

    Args:
        values: by slot.

    Returns:
        One array per output, read-only, in the type that the policy keeps; one of float16 is float32 if
        the policy is `wide`.

    Raises:
        DataError: the arguments do not fit the op or each other (`MISFITS`), the result is not what
            the program declares, or a limit is passed.
    """
    try:
        arguments = dict(step.constants)
        for param, sources in step.dynamic:
            arguments[param.name] = _argument(param, sources, values, policy)
        for parameter, name in step.states:
            arguments[parameter] = states[name]
        most = _check_size(step.op, arguments, policy, usage)
        if "acc" in step.op.params:
            arguments["acc"] = policy.accumulator
        if "usage" in step.op.params:
            arguments["usage"] = usage
        if step.blocks:
            arguments["blocks"] = tuple(
                _callable(block, values, states, policy, usage) for block in step.blocks
            )
        of_halves = step.op.of_halves if step.halves and policy.wide else None
        results = (of_halves or step.op.kernel)(**arguments)
        if not isinstance(results, tuple):
            results = () if results is None else (results,)
        if len(results) != len(step.outputs):
            raise DataError(f"{len(step.outputs)} outputs are declared, the op has {len(results)}")
        # Arguments are read-only, and so are views of them. States, and what blocks hold, may not be.
        own = len(results) == 1 and not step.states and not step.blocks
        outputs = zip(step.outputs, results, strict=True)
        return [
            _settle(output, result, most, policy, usage, own=own, rounded=of_halves is not None)
            for output, result in outputs
        ]
    except DataError as error:
        raise DataError(f"{step.where}: {error}") from error
    except MISFITS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{step.where}: {reason}") from error
    except Exception as error:
        error.add_note(f"in {step.where}")
        raise


def advance(
    step: Step,
    values: dict[int, Array],
    states: Mapping[str, StateBuffer],
    policy: Policy,
    usage: Usage,
) -> list[Array]:
    """Compute a step, keep what it gives among `values`, and drop what nobody reads after it."""
    results = execute(step, values, states, policy, usage)
    for output, value in zip(step.outputs, results, strict=True):
        values[output.slot] = value
        usage.live += value.nbytes
    for slot in step.frees:
        usage.live -= values.pop(slot).nbytes
    return results


def _callable(
    block: Block,
    around: Mapping[int, Array],
    states: Mapping[str, StateBuffer],
    policy: Policy,
    usage: Usage,
) -> Callable[..., tuple[Array, ...]]:
    """A block as a function of its parameters; every call counts, so that no loop is endless."""

    def run(*arguments: Array) -> tuple[Array, ...]:
        usage.spend(ITERATION_WORK)
        if len(arguments) != len(block.parameters):
            raise DataError(f"a block takes {len(block.parameters)} values, got {len(arguments)}")
        before = usage.live
        values = {slot: around[slot] for slot in block.captured}
        for declared, argument in zip(block.parameters, arguments, strict=True):
            value = _settle(declared, argument, extent(argument.shape), policy, usage)
            values[declared.slot] = value
            usage.live += value.nbytes
        for step in block.steps:
            advance(step, values, states, policy, usage)
        usage.live = before
        return tuple(values[source] if isinstance(source, int) else source for source in block.outputs)

    return run


def _argument(
    param: Param, sources: tuple[int | Array, ...], values: Mapping[int, Array], policy: Policy
) -> Any:
    if param.kind is Kind.ARRAY:
        source = sources[0]
        return policy.widen(values[source]) if isinstance(source, int) else source
    found = [values[source] if isinstance(source, int) else source for source in sources]
    if param.kind is Kind.ARRAYS:
        return tuple([policy.widen(value) for value in found])
    return plain(param, found)


def plain(param: Param, values: list[Array] | list[str]) -> Any:
    """A number, a text or a tuple of numbers, as a kernel's parameter wants it.

    Raises:
        DataError: of another kind, or not as many.
    """
    if param.kind is Kind.STR:
        if len(values) == 1 and isinstance(values[0], str):
            return values[0]
        raise DataError(f"{param.name} must be a text")
    if param.kind is Kind.TEXTS:
        return tuple(value if isinstance(value, str) else str(value.item()) for value in values)
    arrays = [value for value in values if not isinstance(value, str)]
    got = ", ".join(f"{a.dtype.name}{list(a.shape)}" for a in arrays[:3]) or "a text"
    wanted = _WANTED[param.kind]
    if len(arrays) != len(values) or any(a.dtype.kind not in wanted.dtypes for a in arrays):
        raise DataError(f"{param.name} must be {wanted.words}, got {got}")
    if wanted.many:
        if any(a.ndim > 1 for a in arrays) or sum(a.size for a in arrays) > MAX_LIST:
            raise DataError(f"{param.name} must be {wanted.words}, at most {MAX_LIST}, got {got}")
        return tuple(item for a in arrays for item in a.reshape(-1).tolist())
    if len(arrays) != 1 or arrays[0].ndim:
        raise DataError(f"{param.name} must be {wanted.words}, got {got}")
    return float(arrays[0].item()) if param.kind is Kind.FLOAT else arrays[0].item()


@dataclass(frozen=True, slots=True)
class _Wanted:
    words: str
    dtypes: str
    many: bool


_WANTED: Final = {
    Kind.INT: _Wanted("an integer", "iu", False),
    Kind.FLOAT: _Wanted("a number", "fiu", False),
    Kind.NUMBER: _Wanted("a number", "fiub", False),
    Kind.BOOL: _Wanted("a truth value", "b", False),
    Kind.INTS: _Wanted("integers", "iu", True),
    Kind.BOOLS: _Wanted("truth values", "b", True),
}


def _check_size(op: Op, arguments: dict[str, Any], policy: Policy, usage: Usage) -> int:
    """Hold the op's largest array, and its work, against the limits before it runs.

    Returns:
        Elements of that array.
    """
    if op.size is not None:
        elements = op.size(**arguments)
    else:
        elements = 0
        for name, value in arguments.items():
            if isinstance(value, np.ndarray):
                elements += extent(value.shape)
            elif op.params[name].kind is Kind.ARRAYS:
                elements += sum(extent(item.shape) for item in value)
    usage.check_value(elements, _WIDEST, "its result")
    work = 16 * elements
    if op.work is not None:
        work += op.work(**arguments) * policy.accumulator.cost
    usage.spend(work)
    return elements


_WIDEST: Final = 8
"""Bytes of an element that kernels compute with, at most."""
_SORTS: Final = {"f": "f", "i": "i", "u": "i", "b": "b"}


def _settle(
    output: Output,
    result: Any,
    most: int,
    policy: Policy,
    usage: Usage,
    *,
    own: bool = False,
    rounded: bool = False,
) -> Array:
    """Round what a kernel returned, and hold it against what the program declares.

    Args:
        most: elements that were checked before.
        own: whether the result may be written over if it is writeable.
        rounded: whether it is as the policy keeps it.
    """
    array = np.asarray(result)
    declared = output.type
    if not declared.fits(array.shape) or _SORTS.get(array.dtype.kind) != _SORTS[declared.dtype.kind]:
        raise DataError(
            f"%{output.name[:80]} is declared {declared}, the op gives {array.dtype.name}{list(array.shape)}"
        )
    if (elements := extent(array.shape)) > most:
        usage.check_value(elements, array.itemsize, "its result")
    if not rounded:
        array = policy.settle(array, declared.dtype, own=own and array.flags.writeable)
    array.flags.writeable = False
    return array


def free_early(steps: list[Step], kept: set[int]) -> tuple[Step, ...]:
    """Let each step free what no later step reads and nobody keeps."""
    seen = set(kept)
    result = []
    for step in reversed(steps):
        slots = {*step.slots, *(output.slot for output in step.outputs)}
        result.append(replace(step, frees=tuple(sorted(slots - seen))))
        seen |= slots
    return tuple(result[::-1])
