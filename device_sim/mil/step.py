"""One operation of a loaded program: its kernel with its constants bound, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sim.mil.limits import Budget
from device_sim.mil.numerics import Policy
from device_sim.mil.registry import Kind, Op, Param
from device_sim.mil.state import StateBuffer
from device_sim.mil.types import Array, TensorType, extent
from personality_common.errors import DataError

MAX_LIST: Final = 1024
"""Entries of a parameter that is a list of numbers: axes, sizes, offsets."""


@dataclass(frozen=True, slots=True)
class Output:
    """A value that a step makes."""

    name: str
    slot: int
    type: TensorType


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, resolved once when the program is loaded."""

    position: int
    """Of the operation in its block."""
    op: Op
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

    @property
    def name(self) -> str:
        """Name of the first output, or type and position of an op without one."""
        return self.outputs[0].name if self.outputs else f"{self.op.name}_{self.position}"

    @property
    def where(self) -> str:
        """For messages."""
        return where(self.op.name, self.position, [output.name for output in self.outputs])


def where(op: str, position: int, outputs: list[str]) -> str:
    """How messages name an operation: its type, first output, and position in the program."""
    output = f" %{outputs[0][:80]}" if outputs else ""
    return f"op {op[:80]}{output} (operation {position})"


def execute(
    step: Step,
    fetch: Callable[[int], Array],
    states: Mapping[str, StateBuffer],
    policy: Policy,
    budget: Budget,
) -> list[Array]:
    """Compute one step.

    Args:
        fetch: the value in a slot.

    Returns:
        One array per output, read-only, in the type that the policy keeps.

    Raises:
        DataError: the arguments do not fit the op or each other, the result is not what the
            program declares, or a limit is passed. Whatever a kernel trips over on arguments
            of a malformed program is reported like this.
    """
    try:
        arguments = dict(step.constants)
        for param, sources in step.dynamic:
            arguments[param.name] = _argument(param, sources, fetch, policy)
        for parameter, name in step.states:
            arguments[parameter] = states[name]
        _check_size(step.op, arguments, budget)
        accumulator = step.op.params.get("acc")
        if accumulator is not None:
            arguments["acc"] = policy.accumulator
        result = step.op.kernel(**arguments)
        return _settle(step, result, policy, budget)
    except DataError as error:
        raise DataError(f"{step.where}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{step.where}: {reason}") from error


def _argument(
    param: Param, sources: tuple[int | Array, ...], fetch: Callable[[int], Array], policy: Policy
) -> Any:
    if param.kind is Kind.ARRAY:
        source = sources[0]
        return policy.widen(fetch(source)) if isinstance(source, int) else source
    values = [fetch(source) if isinstance(source, int) else source for source in sources]
    if param.kind is Kind.ARRAYS:
        return tuple(policy.widen(value) for value in values)
    return plain(param, values)


def plain(param: Param, values: list[Array] | list[str]) -> Any:
    """A number, a text or a tuple of numbers, as a kernel's parameter wants it.

    Raises:
        DataError: of another kind, or not as many.
    """
    if param.kind is Kind.STR:
        if len(values) == 1 and isinstance(values[0], str):
            return values[0]
        raise DataError(f"{param.name} must be a text")
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


def _check_size(op: Op, arguments: dict[str, Any], budget: Budget) -> None:
    """Hold the op's largest array, and its work, against the limits before it runs."""
    if op.size is not None:
        elements = op.size(**arguments)
    else:
        elements = sum(
            sum(extent(item.shape) for item in ([value] if isinstance(value, np.ndarray) else value))
            for name, value in arguments.items()
            if op.params[name].kind in (Kind.ARRAY, Kind.ARRAYS) and value is not None
        )
    budget.check_value(elements, 8, "its result")
    work = op.work(**arguments) if op.work is not None else 0
    budget.spend(work + 16 * elements, "it")


_KINDS: Final = {"f": "f", "i": "i", "u": "i", "b": "b"}


def _settle(step: Step, result: Any, policy: Policy, budget: Budget) -> list[Array]:
    """Round what a kernel returned, and hold it against what the program declares."""
    if result is None:
        results: tuple[Any, ...] = ()
    else:
        results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(step.outputs):
        raise DataError(f"{len(step.outputs)} outputs are declared, the op has {len(results)}")
    settled = []
    for output, value in zip(step.outputs, results, strict=True):
        array = np.asarray(value)
        if (
            not output.type.fits(array.shape)
            or _KINDS.get(array.dtype.kind) != _KINDS[output.type.dtype.kind]
        ):
            raise DataError(
                f"%{output.name[:80]} is declared {output.type}, "
                f"the op gives {array.dtype.name}{list(array.shape)}"
            )
        budget.check_value(extent(array.shape), array.itemsize, "its result")
        array = array.astype(policy.kept(output.type.dtype), copy=False)
        array.flags.writeable = False
        settled.append(array)
    return settled
