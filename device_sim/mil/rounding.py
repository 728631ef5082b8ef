"""Rounding to float16 without leaving float32, which NumPy's conversions, in software, take longer for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from device_sim.mil.types import Array

_BLOCK: Final = 32768
"""Numbers at a time, so that they stay in the cache: 128 KiB."""


def _number(bits: int) -> Array:
    return np.array(bits, np.uint32).view(np.int32)


_EXPONENT: Final = _number(0x7F800000)
_SIGN: Final = _number(0x80000000)
_LEAST: Final = _number(113 << 23)
"""2^-14: what is smaller is spaced like it in float16."""
_TWELVE: Final = _number((13 << 23) + 0x400000)
"""Makes 2^e into 1.5 * 2^(e + 13), beside which float32 is spaced as float16 is beside 2^e."""
_GREAT: Final = 142 << 23
"""2^15: from here on a number may be infinite in float16, or no number."""
_VANISHING: Final = 102 << 23
"""2^-25: at and below it a number is rounded to zero, and its sign must be kept."""


_UNUSED_BITS: Final = np.array(13, np.uint32)
"""Of a float32 that float16 has, these are 0."""


def on_half_grid(x: Array, *, own: bool) -> Array:
    """float32 numbers rounded to those that float16 has, ties to even: `x.astype(float16)`, widened.

    A number x with the exponent e is added to 1.5 * 2^(e + 13), and that taken away again: the sum has as
    many bits left for x as float16 has.

    Args:
        own: whether x may be written over.
    """
    flat = _in_memory(x) if own else None
    if flat is None:
        x = np.array(x, np.float32, order="K")  # as `astype` has it
        flat = _in_memory(x)
        assert flat is not None
    beside = np.empty(min(_BLOCK, flat.size), np.float32)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        _round(part, beside[: part.size])
    return x


def table(function: Callable[[Array], Array]) -> Array:
    """An elementwise function's values at all numbers that float16 has, rounded to such: (2^19,) float32.

    The index is the upper 19 bits of the number in float32. 2 MiB, of which a network's numbers use little.
    """
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    values = np.zeros(1 << (32 - int(_UNUSED_BITS)), np.float32)
    with np.errstate(all="ignore"):
        values[halves.view(np.uint32) >> _UNUSED_BITS] = on_half_grid(function(halves), own=True)
    return values


def looked_up(values: Array, x: Array) -> Array:
    """The values of a `table` at x, float32 numbers that float16 has; in rows, however x lies in memory."""
    bits = np.ascontiguousarray(x).reshape(-1).view(np.uint32)
    result = np.empty(x.shape, np.float32)
    into = result.reshape(-1)
    index = np.empty(min(_BLOCK, bits.size), np.int64)
    for start in range(0, bits.size, _BLOCK):
        part = bits[start : start + _BLOCK]
        index[: part.size] = part >> _UNUSED_BITS
        values.take(index[: part.size], out=into[start : start + _BLOCK], mode="clip")  # in place
    return result


def _in_memory(x: Array) -> Array | None:
    """An array as one row in the order of its memory, a view; None if it has gaps there or lies backwards."""
    rows = x.transpose(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    return rows.reshape(-1) if rows.flags.c_contiguous else None


def _round(x: Array, beside: Array) -> None:
    bits, exponents = x.view(np.int32), beside.view(np.int32)
    np.bitwise_and(bits, _EXPONENT, out=exponents)
    if exponents.max() >= _GREAT:
        x[...] = x.astype(np.float16)
        return
    signs = np.bitwise_and(bits, _SIGN) if exponents.min() <= _VANISHING else None
    np.maximum(exponents, _LEAST, out=exponents)
    exponents += _TWELVE
    x += beside
    x -= beside
    if signs is not None:
        bits |= signs
