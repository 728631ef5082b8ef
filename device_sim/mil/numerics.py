"""Numeric policies: in which precision ops compute, and to what their results are rounded.

Kernels receive arrays in the policy's compute type and know nothing of the declared types; the
evaluator rounds what they return. Sums and matrix products go through the policy's
`Accumulator`, the one other place where precision is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np

from device_sim.mil.rounding import on_half_grid
from device_sim.mil.types import Array
from personality_common.errors import ToolkitError

CHUNK: Final = 8
"""Terms that `fp16-accumulate` adds in float32 before it rounds to float16."""
_SMALL: Final = 1 << 20
"""Multiply-adds up to which OpenBLAS has a kernel for each layout, with sums in another order."""
_ROWS: Final = range(2, 257)
"""In which BLAS is quicker with a transposed weight on the left: of one row the last bits differ."""
_COLUMNS: Final = 64
"""Turned at a time, so that both sides of them stay in the cache."""


class Accumulator:
    """Sums and matrix products in the precision of their operands."""

    cost = 1
    """Time of a matrix product, in those of a plain one."""
    rounds = False
    """Whether partial sums are rounded: if not, a kernel may add in any way it likes."""

    def matmul(self, x: Array, y: Array) -> Array:
        """`x @ y` with NumPy's broadcasting; (…, m, k) by (…, k, n)."""
        if y.ndim == 2 and x.ndim > 2:  # one large product instead of a batch of small ones
            x, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], y.shape[-1])
            return self.matmul(x, y).reshape(shape)
        turned = x.ndim == y.ndim == 2 and y.flags.f_contiguous and not y.flags.c_contiguous
        turned = turned and x.dtype == y.dtype == np.float32 and len(x) in _ROWS
        if turned and x.size * y.shape[1] > _SMALL and _turning_keeps_bits():
            return _turned_product(x, y)
        return np.asarray(np.matmul(x, y))

    def sum(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        """Sum over `axes`."""
        return np.asarray(np.sum(x, axis=axes, keepdims=keepdims))

    def mean(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        """Mean over `axes`."""
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        total = self.sum(x, axes, keepdims)
        return np.asarray(total / total.dtype.type(count)) if total.dtype.kind == "f" else total / count


@cache
def _turning_keeps_bits() -> bool:
    """Whether BLAS adds in the same order either way: OpenBLAS does with AVX-512, not without."""
    draw = np.random.default_rng(0)
    x, weight = (draw.normal(size=(rows, 512)).astype(np.float32) for rows in (64, 700))
    return np.array_equal(_turned_product(x, weight.T), np.matmul(x, weight.T))


def _turned_product(x: Array, y: Array) -> Array:
    """`x @ y` of a transposed weight y, which BLAS takes a fifth less for; see `_turning_keeps_bits`.

    The result lies in rows, as `np.matmul` has it: what is computed from it adds in the same order.
    """
    columns = np.matmul(y.T, x.T)
    result = np.empty((len(x), len(columns)), np.float32)
    for start in range(0, len(columns), _COLUMNS):
        result[:, start : start + _COLUMNS] = columns[start : start + _COLUMNS].T
    return result


class Float16Accumulator(Accumulator):
    """A pessimistic model of 16-bit accumulation.

    Products are exact to float32 and added in float32 in runs of `CHUNK` terms; the sum of a
    run is rounded to float16, and the runs are added one after another in float16, each partial
    sum rounded. Hardware that accumulates in 16 bits adds in trees or wider registers, and errs
    less.
    """

    cost = 32
    rounds = True

    def matmul(self, x: Array, y: Array) -> Array:
        if x.dtype.kind != "f" or y.dtype.kind != "f":
            return super().matmul(x, y)
        vector_x, vector_y = x.ndim == 1, y.ndim == 1
        x = x[None, :] if vector_x else x
        y = y[:, None] if vector_y else y
        if x.shape[-1] != y.shape[-2]:
            raise ValueError(f"shapes {x.shape} and {y.shape} do not chain")
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        total = np.zeros((*batch, x.shape[-2], y.shape[-1]), np.float16)
        for start in range(0, x.shape[-1], CHUNK):
            part = super().matmul(x[..., start : start + CHUNK], y[..., start : start + CHUNK, :])
            total += part.astype(np.float16)
        total = total[..., 0, :] if vector_x else total
        total = total[..., 0] if vector_y else total
        return total.astype(np.float32)

    def sum(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        if x.dtype.kind != "f":
            return super().sum(x, axes, keepdims)
        axes = tuple(axis % x.ndim for axis in axes)
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        terms = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
        total = np.zeros(terms.shape[:-1], np.float16)
        for start in range(0, terms.shape[-1], CHUNK):
            total += terms[..., start : start + CHUNK].sum(axis=-1, dtype=np.float32).astype(np.float16)
        if keepdims:
            total = total.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
        return np.asarray(total, np.float32)


@dataclass(frozen=True)
class Policy:
    """In which type to compute, and which to keep results in.

    `exact`: compute in float32, round each result to the type that the program declares.
    `float64`: compute in float64 and round nothing; the yardstick.
    `fp16-accumulate`: every float value and every weight of rank 1 or more is rounded to
    float16, whatever the program declares, and sums accumulate in float16
    (`Float16Accumulator`).

    Constants of rank 0 (epsilons, scales) keep their value in all of them.
    """

    name: str
    compute: np.dtype[Any]
    keep: np.dtype[Any] | None
    """Type of float results; None: what the program declares."""
    accumulator: Accumulator
    wide: bool = False
    """Whether results that are float16 stay in float32, rounded all the same: see `widely`."""

    @property
    def widely(self) -> Policy:
        """The same numbers, for a program that is run without a look at its values: whatever reads one that
        was rounded to float16 widens it first, so it is kept like that."""
        return replace(self, wide=self.compute == np.float32)

    def widen(self, value: Array) -> Array:
        """A value as kernels see it."""
        if value.dtype.kind != "f" or value.dtype == self.compute:
            return value
        return value.astype(self.compute)

    def constant(self, value: Array) -> Array:
        """A constant as kernels see it; computed once, when the program is loaded."""
        if value.dtype.kind == "f" and value.ndim and self.keep is not None:
            with np.errstate(over="ignore"):
                value = value.astype(self.keep, copy=False)
        return self.widen(value)

    def settle(self, result: Array, declared: np.dtype[Any], *, own: bool) -> Array:
        """What a kernel returned, rounded for a value of this declared type.

        Args:
            own: whether the array may be written over.
        """
        kept = self.kept(declared)
        if self.wide and kept == np.float16 and result.dtype == np.float32:
            return on_half_grid(result, own=own)
        return result.astype(kept, copy=False)

    def kept(self, declared: np.dtype[Any]) -> np.dtype[Any]:
        """The type that a result of this declared type is rounded to."""
        return self.keep if self.keep is not None and declared.kind == "f" else declared


_POLICIES: Final = {
    policy.name: policy
    for policy in (
        Policy("exact", np.dtype(np.float32), None, Accumulator()),
        Policy("float64", np.dtype(np.float64), np.dtype(np.float64), Accumulator()),
        Policy("fp16-accumulate", np.dtype(np.float32), np.dtype(np.float16), Float16Accumulator()),
    )
}
POLICIES: Final = tuple(_POLICIES)


def policy(name: str) -> Policy:
    """The policy of this name; see `Policy`."""
    try:
        return _POLICIES[name]
    except KeyError:
        raise ToolkitError(f"numeric policy must be one of {', '.join(POLICIES)}, got {name!r}") from None
