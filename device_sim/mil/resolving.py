"""Which kernel runs each operation of a program, before any of it is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from device_sim.mil.registry import Op, find
from device_sim.mil.step import MAX_LIST, where
from personality_common.coreml.limits import require_at_most
from personality_common.errors import DataError

CONST: Final = "const"
CLASSIFY: Final = "classify"
SPECIAL: Final = (CONST, CLASSIFY)
"""Ops that are no function of arrays: the loader reads them."""
BLOCKS: Final = {"cond": 2, "while_loop": 2}
"""Nested blocks of the ops that have any."""


def check_kernels(operations: Any, opset: str) -> None:
    """Refuse a program with an op that has no kernel, naming the first and all others.

    Raises:
        DataError: such an op, too many outputs, or nested blocks where none belong.
    """
    missing: dict[str, str] = {}
    for at, operation in placed(operations):
        require_at_most(len(operation.outputs), MAX_LIST, f"outputs of {at}")
        if len(operation.blocks) != BLOCKS.get(operation.type, 0):
            raise DataError(
                f"{at}: it has {BLOCKS.get(operation.type, 0)} nested blocks, got {len(operation.blocks)}"
            )
        if operation.type not in SPECIAL and find(operation.type, opset) is None:
            missing.setdefault(operation.type[:40], at)
    if missing:
        (first, at), *_ = missing.items()
        others = sorted(missing.keys() - {first})
        also = f"; nor for {', '.join(others[:8])}" if others else ""
        raise DataError(f"{at}: there is no kernel for it in opset {opset}{also}")


def kernels(operations: Iterable[Any], opset: str) -> list[Op | None]:
    """The kernel of each operation, None for those of `SPECIAL`."""
    return [None if operation.type in SPECIAL else find(operation.type, opset) for operation in operations]


def placed(operations: Any) -> Iterator[tuple[str, Any]]:
    """Each operation, nested ones too, with its name for messages."""
    for position, operation in enumerate(operations):
        yield where(operation.type, position, [output.name for output in operation.outputs[:1]]), operation
        for nested in operation.blocks:
            yield from placed(nested.operations)
