"""Matrix products. Source: coremltools, mil/ops/defs/iOS15/linear.py, iOS17/linear.py."""

from __future__ import annotations

import numpy as np

from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Arrays, prod

INTEGER_WORK = 64
"""NumPy multiplies integer matrices without BLAS, about this much slower."""


def product_size(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> int:
    """Elements of `x @ y`."""
    rows = 1 if x.ndim < 2 else x.shape[-1 if transpose_x else -2]
    columns = 1 if y.ndim < 2 else y.shape[-2 if transpose_y else -1]
    return prod((*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, columns))


def product_work(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> int:
    """Multiply-adds of `x @ y`."""
    inner = x.shape[-2 if transpose_x and x.ndim > 1 else -1] if x.ndim else 1
    scale = 1 if x.dtype.kind == "f" else INTEGER_WORK
    return prod((product_size(x, y, transpose_x, transpose_y), inner, scale))


def _linear_size(x: Array, weight: Array, bias: Array | None = None) -> int:
    if x.ndim < 1 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x{list(x.shape)} must end in the last size of weight{list(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias{list(bias.shape)} must have the first size of weight{list(weight.shape)}")
    return prod((*x.shape[:-1], weight.shape[0]))


def _linear_work(x: Array, weight: Array, bias: Array | None = None) -> int:
    scale = 1 if x.dtype.kind == "f" else INTEGER_WORK
    return prod((_linear_size(x, weight, bias), x.shape[-1], scale))


@op("linear", size=_linear_size, work=_linear_work)
def linear(x: Array, weight: Array, bias: Array | None = None, *, acc: Accumulator) -> Array:
    """`x @ weight.T + bias`: x (…, in), weight (out, in), bias (out,); returns (…, out)."""
    result = acc.matmul(x, weight.T)
    if bias is not None:
        result += bias
    return result


@op("matmul", size=product_size, work=product_work)
def matmul(
    x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False, *, acc: Accumulator
) -> Array:
    if (transpose_x and x.ndim == 1) or x.ndim == 0 or y.ndim == 0:
        raise ValueError(f"x{list(x.shape)} and y{list(y.shape)} cannot be multiplied like this")
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return acc.matmul(x, y)


def _einsum_operands(values: Arrays, equation: str) -> tuple[Array, Array]:
    """`nchw,nwhu->nchu` as a batched product: x (…, h, c, w) and y (…, h, w, u)."""
    names = equation.replace(" ", "")
    letters: dict[str, str] = {}
    shape = "".join(letters.setdefault(c, chr(97 + len(letters))) if c.isalpha() else c for c in names)
    if len(values) != 2 or shape not in ("abcd,adce->abce", "abc,cbd->abd"):
        raise ValueError(
            f"two values and an equation like nchw,nwhu->nchu or chw,whr->chr are expected, "
            f"got {len(values)} and {equation!r}"
        )
    x, y = values
    rank = 4 if shape.startswith("abcd") else 3
    if x.ndim != rank or y.ndim != rank or x.shape[-1] != y.shape[-3]:
        raise ValueError(f"shapes {list(x.shape)} and {list(y.shape)} do not fit {equation!r}")
    return np.swapaxes(x, -3, -2), np.swapaxes(y, -3, -2)


def _einsum_size(values: Arrays, equation: str) -> int:
    return product_size(*_einsum_operands(values, equation))


def _einsum_work(values: Arrays, equation: str) -> int:
    return product_work(*_einsum_operands(values, equation))


@op("einsum", size=_einsum_size, work=_einsum_work)
def einsum(values: Arrays, equation: str, *, acc: Accumulator) -> Array:
    return np.swapaxes(acc.matmul(*_einsum_operands(values, equation)), -3, -2)
