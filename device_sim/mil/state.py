"""State buffers of a stateful model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from device_sim.mil.types import Array, TensorType
from personality_common.errors import DataError


@dataclass(eq=False)
class StateBuffer:
    """One buffer; its array is replaced, never written into."""

    name: str
    type: TensorType
    value: Array

    def write(self, value: Array) -> None:
        """Replace the content, rounded to the buffer's type.

        Raises:
            DataError: another shape, floats for integers, or an integer that its type cannot hold.
        """
        if not self.type.fits(value.shape) or value.dtype.kind != self.type.dtype.kind:
            got = f"{value.dtype.name}{list(value.shape)}"
            raise DataError(f"state {self.name!r} is {self.type}, got {got}")
        with np.errstate(over="ignore"):
            written = value.astype(self.type.dtype)  # a copy: the caller keeps theirs
        if written.dtype.kind == "i" and not np.array_equal(written, value):
            raise DataError(f"state {self.name!r} must fit {self.type.dtype.name}, got larger numbers")
        self.value = written


class State:
    """The buffers of one session with a model, as `MLModel.newState()` makes them: zeros at first.

    The app fills them (`state["projection_weight"] = array`) and passes the state to `predict`,
    which may write to it.
    """

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        self.buffers = {
            name: StateBuffer(name, type_, np.zeros(fixed_shape(name, type_), type_.dtype))
            for name, type_ in types.items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._buffer(name).value

    def __setitem__(self, name: str, value: Array) -> None:
        self._buffer(name).write(np.asarray(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self.buffers)

    def _buffer(self, name: str) -> StateBuffer:
        try:
            return self.buffers[name]
        except KeyError:
            names = ", ".join(self.buffers) or "none"
            raise DataError(f"the model has no state {name!r}; its states: {names}") from None


def fixed_shape(name: str, type_: TensorType) -> tuple[int, ...]:
    """The shape of a state's type.

    Raises:
        DataError: a size of it is not declared.
    """
    if type_.shape is None or None in type_.shape:
        raise DataError(f"state {name!r} must have a fixed shape, it is {type_}")
    return tuple(size for size in type_.shape if size is not None)
