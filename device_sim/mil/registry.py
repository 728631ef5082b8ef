"""Which function computes which op, from which opset on."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

OPSETS: Final = {
    "CoreML5": "iOS15",
    "CoreML6": "iOS16",
    "CoreML7": "iOS17",
    "CoreML8": "iOS18",
    "CoreML9": "iOS26",
}
"""Opsets as programs name them, and as coremltools' documentation does; oldest first."""

_ORDER: Final = {name: i for i, name in enumerate(OPSETS.values())}


class Kind(enum.Enum):
    """What a kernel's parameter takes, from its annotation."""

    ARRAY = "array"
    ARRAYS = "arrays"
    INT = "int"
    FLOAT = "float"
    NUMBER = "number"
    BOOL = "bool"
    STR = "str"
    INTS = "ints"
    BOOLS = "bools"
    STATE = "state"
    TEXTS = "texts"
    BLOCKS = "blocks"
    ACCUMULATOR = "accumulator"
    USAGE = "usage"


_KINDS: Final = {
    "Array": Kind.ARRAY,
    "Arrays": Kind.ARRAYS,
    "int": Kind.INT,
    "float": Kind.FLOAT,
    "Number": Kind.NUMBER,
    "bool": Kind.BOOL,
    "str": Kind.STR,
    "Ints": Kind.INTS,
    "Bools": Kind.BOOLS,
    "Texts": Kind.TEXTS,
    "Blocks": Kind.BLOCKS,
    "StateBuffer": Kind.STATE,
    "Accumulator": Kind.ACCUMULATOR,
}
"""By annotation, as it is written: to evaluate those of all kernels would take a tenth of the import."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a kernel."""

    name: str
    kind: Kind
    required: bool


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A kernel, and what the evaluator must know to call it."""

    name: str
    opset: str
    """The first opset that it is for."""
    family: str
    kernel: Callable[..., Any]
    params: dict[str, Param]
    size: Callable[..., int] | None
    """Elements of the largest array that the kernel makes, from the same arguments; None: no
    more than its arguments have together."""
    work: Callable[..., int] | None
    """Multiply-adds, from the same arguments; None: none worth counting."""
    of_halves: Callable[..., Any] | None = None
    """The kernel for float32 numbers that float16 has, its result rounded to such; None: none of its own."""


K = TypeVar("K", bound=Callable[..., Any])
_OPS: dict[str, dict[str, Op]] = {}


def op(
    name: str,
    opset: str = "iOS15",
    *,
    size: Callable[..., int] | None = None,
    work: Callable[..., int] | None = None,
    of_halves: Callable[..., Any] | None = None,
) -> Callable[[K], K]:
    """Register a kernel: a function whose parameters have MIL's names and say what they take.

    Args:
        name: MIL's name of the op.
        opset: the first opset in which the op behaves like this.
        size, work, of_halves: see `Op`.

    Raises:
        ValueError: registered already, or an unknown opset or annotation.
    """

    def register(kernel: K) -> K:
        versions = _OPS.setdefault(name, {})
        if opset in versions:
            raise ValueError(f"op {name!r} of {opset} is registered already: {versions[opset].kernel}")
        if opset not in _ORDER:
            raise ValueError(f"op {name!r}: opset must be one of {', '.join(_ORDER)}, got {opset!r}")
        family = kernel.__module__.rpartition(".")[2]
        versions[opset] = Op(name, opset, family, kernel, _params(kernel), size, work, of_halves)
        return kernel

    return register


def find(name: str, opset: str) -> Op | None:
    """The newest kernel of this op that is not newer than the opset (`iOS17`)."""
    versions = [op for op in _OPS.get(name, {}).values() if _ORDER[op.opset] <= _ORDER[opset]]
    return max(versions, key=lambda op: _ORDER[op.opset], default=None)


def all_ops() -> list[Op]:
    """Every registered kernel, by family, name and opset."""
    ops = [op for versions in _OPS.values() for op in versions.values()]
    return sorted(ops, key=lambda op: (op.family, op.name, _ORDER[op.opset]))


def _params(kernel: Callable[..., Any]) -> dict[str, Param]:
    return {
        name: Param(name, _kind(kernel, parameter), parameter.default is inspect.Parameter.empty)
        for name, parameter in inspect.signature(kernel).parameters.items()
    }


def _kind(kernel: Callable[..., Any], parameter: inspect.Parameter) -> Kind:
    hint = str(parameter.annotation).removesuffix(" | None")
    if hint not in _KINDS:
        raise ValueError(
            f"{kernel}: parameter {parameter.name!r} has annotation {hint}, which no kind stands for"
        )
    return _KINDS[hint]
