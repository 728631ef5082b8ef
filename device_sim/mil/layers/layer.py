"""A layer of a neural network with its weights bound, and the readers of its arguments.

Networks know one type, floats of any shape: indices, sizes and truth values are floats too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

import device_sim.mil.kernels  # noqa: F401  (registers them)
from device_sim.mil.layers.weights import Weights
from device_sim.mil.registry import OPSETS, find
from device_sim.mil.step import MAX_LIST
from device_sim.mil.types import MAX_RANK, Array, Ints
from personality_common.errors import DataError

CHANNEL: Final = -3
MANY: Final = 1024
"""Inputs or outputs of one layer."""
_NEWEST: Final = list(OPSETS.values())[-1]
_LARGEST: Final = 2.0**53
"""Beyond it a float is no index."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with its weights bound."""

    run: Callable[..., Any]
    """Of its inputs in order, and of `constants` by name; gives an array, or a tuple of them."""
    constants: Mapping[str, Array] = field(default_factory=dict)
    """Weights that `pt trace` may exchange; others are bound in `run`."""
    size: Callable[..., int] | None = None
    """Elements of the largest array that it makes, from the arguments of `run`; None: no more than they
    have together."""
    work: Callable[..., int] | None = None
    """Multiply-adds, from the same arguments; None: none worth counting."""
    fewest: int = 1
    most: int = 1
    """Inputs."""
    gives: tuple[int, int] = (1, 1)
    """Fewest and most outputs; what `run` gives beyond those that are named is dropped."""


Build: TypeAlias = Callable[[Any, Weights], Layer]
"""From a layer's parameters, as the protobuf has them."""


def kernel(
    weights: Weights,
    name: str,
    arguments: Callable[..., dict[str, Any]],
    inputs: int | tuple[int, int] = 1,
    constants: Mapping[str, Array] | None = None,
    gives: tuple[int, int] = (1, 1),
) -> Layer:
    """A layer that is an op of MIL, with the op's own size and work.

    Args:
        arguments: from the layer's inputs and constants to the op's.
        inputs: how many, or the fewest and the most.
    """
    op = find(name, _NEWEST)
    assert op is not None, name
    extra = {"acc": weights.policy.accumulator} if "acc" in op.params else {}
    fewest, most = (inputs, inputs) if isinstance(inputs, int) else inputs
    op_size, op_work = op.size, op.work
    return Layer(
        lambda *x, **c: op.kernel(**arguments(*x, **c), **extra),
        constants or {},
        None if op_size is None else lambda *x, **c: op_size(**arguments(*x, **c)),
        None if op_work is None else lambda *x, **c: op_work(**arguments(*x, **c)),
        fewest,
        most,
        gives,
    )


def shape_of(sizes: Sequence[int], least: int = 0) -> Ints:
    """Sizes from the protobuf, which may be any number of any integers; `least` is -1 where one is free."""
    if len(sizes) > MAX_RANK or min(sizes, default=least) < least:
        raise DataError(f"a shape has {MAX_RANK} sizes at most, none below {least}, got {list(sizes[:8])}")
    return tuple(sizes)


def listed(values: Sequence[Any], name: str) -> tuple[Any, ...]:
    """A repeated field.

    Raises:
        DataError: longer than any parameter is.
    """
    if len(values) > MAX_LIST:
        raise DataError(f"{name} has {len(values)} values; {MAX_LIST} are the most")
    return tuple(values)


def choice(p: Any, name: str) -> str:
    """The name of an enumeration's value.

    Raises:
        DataError: a number that the format does not have.
    """
    names = p.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    number = getattr(p, name)
    if number not in names:
        raise DataError(f"{name} {number} is unknown")
    return str(names[number].name)


def integers(x: Array) -> Array:
    """Floats that stand for indices or sizes; a fraction is dropped.

    Raises:
        ValueError: not finite, or too large to be one.
    """
    if x.dtype.kind == "f":
        if x.size and not np.abs(x).max() < _LARGEST:  # NaN fails it too
            raise ValueError("indices and sizes must be finite numbers below 2^53")
        x = np.trunc(x)
    return x.astype(np.int64)


def sizes_in(x: Array) -> Ints:
    """A shape that is given as a vector."""
    if x.ndim > 1 or x.size > MAX_LIST:
        raise ValueError(f"a vector of at most {MAX_LIST} sizes is expected, got {list(x.shape)}")
    return tuple(integers(x).reshape(-1).tolist())


def scalar(x: Array) -> float:
    """The only element.

    Raises:
        ValueError: there are more, or none.
    """
    if x.size != 1:
        raise ValueError(f"one number is expected, got {list(x.shape)}")
    return float(x.reshape(()).item())


def truth(x: Array) -> Array:
    """What counts as true: anything but zero."""
    return np.not_equal(x, 0)


def rank_at_least(x: Array, rank: int) -> Array:
    """x itself.

    Raises:
        ValueError: fewer axes.
    """
    if x.ndim < rank:
        raise ValueError(f"rank {rank} or more is expected, got {list(x.shape)}")
    return x
