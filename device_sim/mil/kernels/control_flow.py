"""Branches, loops and lists. Source: coremltools, mil/ops/defs/iOS15/control_flow.py.

A list is one array whose first axis is the list's. A loop ends when its condition is false, when its time is
up, or when what it holds passes a limit: each round counts like any other work.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from device_sim.mil.registry import op
from device_sim.mil.types import Array, Arrays, Blocks, Ints, Texts, prod

_DTYPES: Final = {
    "bool": np.bool_,
    "fp16": np.float32,
    "fp32": np.float32,
    "int32": np.int32,
}


@op("cond")
def cond(pred: bool, blocks: Blocks) -> tuple[Array, ...]:
    """The first block if true, else the second."""
    return blocks[0]() if pred else blocks[1]()


@op("while_loop")
def while_loop(loop_vars: Arrays, blocks: Blocks) -> tuple[Array, ...]:
    """The second block on what it gave before, as long as the first one says true."""
    values = tuple(loop_vars)
    while True:
        answer = blocks[0](*values)
        if len(answer) != 1 or answer[0].dtype.kind != "b" or answer[0].size != 1:
            raise ValueError("the condition of a loop must give one truth value")
        if not answer[0].item():
            return values
        values = blocks[1](*values)


def _list_shape(elem_shape: Texts, init_length: int) -> Ints:
    sizes = tuple(int(text) if text.isdecimal() and len(text) < 19 else 0 for text in elem_shape)
    if init_length < 0:
        raise ValueError(f"init_length must not be negative, got {init_length}")
    return init_length, *sizes


def _make_size(elem_shape: Texts = (), init_length: int = 1, **_: object) -> int:
    return prod(_list_shape(elem_shape, init_length))


@op("make_list", size=_make_size)
def make_list(
    elem_shape: Texts = (), init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32"
) -> Array:
    """Zeros; a size of the elements that is not known yet, given by a name, is 0 until one is written."""
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    return np.zeros(_list_shape(elem_shape, init_length), _DTYPES[dtype])


@op("list_length")
def list_length(ls: Array) -> Array:
    return np.asarray(ls.shape[0], np.int32)


@op("list_read")
def list_read(ls: Array, index: int) -> Array:
    return np.asarray(ls[_inside(ls, (index,))[0]])


def _gather_size(ls: Array, indices: Ints) -> int:
    return prod((len(indices), *ls.shape[1:]))


@op("list_gather", size=_gather_size)
def list_gather(ls: Array, indices: Ints) -> Array:
    return ls[_inside(ls, indices)]


def _inside(ls: Array, indices: Ints) -> list[int]:
    if any(not 0 <= index < ls.shape[0] for index in indices):
        raise ValueError(f"indices must be in [0, {ls.shape[0]}), got {list(indices[:8])}")
    return list(indices)


def _write_size(ls: Array, index: int, value: Array) -> int:
    return _grown(ls, (index,), value.shape)


def _scatter_size(ls: Array, indices: Ints, value: Array) -> int:
    return _grown(ls, indices, value.shape[1:])


def _grown(ls: Array, indices: Ints, element: Ints) -> int:
    return prod((max(ls.shape[0], *indices, 0) + 1, *element)) + prod(ls.shape)


@op("list_write", size=_write_size)
def list_write(ls: Array, index: int, value: Array) -> Array:
    """A copy with one element replaced; it grows where the index is beyond its end."""
    return _written(ls, (index,), value[None])


@op("list_scatter", size=_scatter_size)
def list_scatter(ls: Array, indices: Ints, value: Array) -> Array:
    """`value` holds the elements, one for each index."""
    if value.ndim == 0 or value.shape[0] != len(indices):
        raise ValueError(f"{len(indices)} indices need as many elements, got {list(value.shape)}")
    return _written(ls, indices, value)


def _written(ls: Array, indices: Ints, elements: Array) -> Array:
    if min(indices, default=0) < 0:
        raise ValueError(f"an index must not be negative, got {min(indices)}")
    if elements.dtype.kind != ls.dtype.kind:
        raise ValueError(f"elements of the list are {ls.dtype.name}, got {elements.dtype.name}")
    known, element = ls.shape[1:], elements.shape[1:]
    if len(known) != len(element) or any(a not in (0, b) for a, b in zip(known, element, strict=True)):
        raise ValueError(f"elements of the list are {list(known)}, got {list(element)}")
    length = max(ls.shape[0], max(indices, default=-1) + 1)
    result = np.zeros((length, *element), ls.dtype)
    if known == element:
        result[: ls.shape[0]] = ls
    result[list(indices)] = elements
    return result
