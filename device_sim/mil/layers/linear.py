"""Matrix products and tables of vectors."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import linear
from device_sim.mil.kernels.linear import product_size, product_work
from device_sim.mil.layers.layer import Build, Layer, integers, rank_at_least
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array, prod
from personality_common.errors import DataError

_INT8: Final = 127


def _rounded(x: Array) -> Array:
    """What 8-bit integers with one scale hold of x: `int8DynamicQuantize`.

    How the device chooses the scale is not documented; this is the largest size of an element by 127.
    """
    largest = np.abs(x).max(initial=0)
    scale = largest / _INT8 if largest > 0 else x.dtype.type(1)
    return np.asarray(np.round(x / scale) * scale)


def _inner_product(p: Any, weights: Weights) -> Layer:
    inputs, outputs = int(p.inputChannels), int(p.outputChannels)
    weight = weights.read(p.weights, (outputs, inputs), "weights")
    bias = weights.read(p.bias, (outputs,), "bias") if p.hasBias else None

    def matrix(x: Array) -> Array:
        """Rank 4 and 5 multiply all of the last three axes; the others the last one."""
        flat = x.reshape(*x.shape[:-3], -1) if x.ndim in (4, 5) else x
        if x.ndim < 1 or flat.shape[-1] != inputs:
            raise DataError(f"{inputs} input channels are expected, got {list(x.shape)}")
        return _rounded(flat) if p.int8DynamicQuantize else flat

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        result = linear.linear(matrix(x), weight, bias, acc=weights.policy.accumulator)
        return result[..., None, None] if x.ndim in (4, 5) else result

    def size(x: Array, **_: Array) -> int:
        return prod((*x.shape[: -3 if x.ndim in (4, 5) else -1], outputs)) + x.size

    def work(x: Array, **_: Array) -> int:
        return x.size * outputs

    return Layer(run, {"weight": weight} | ({} if bias is None else {"bias": bias}), size, work)


def _batched_matmul(p: Any, weights: Weights) -> Layer:
    rows, columns = int(p.weightMatrixFirstDimension), int(p.weightMatrixSecondDimension)
    acc = weights.policy.accumulator

    def product(x: Array, y: Array) -> Array:
        if not x.ndim or not y.ndim:
            raise DataError("both factors must have an axis")
        x, y = x[None, :] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y
        return linear.matmul(x, y, p.transposeA, p.transposeB, acc=acc)

    def sized(x: Array, y: Array) -> tuple[Array, Array, bool, bool]:
        x, y = x[None] if x.ndim == 1 else x, y[..., None] if y.ndim == 1 else y
        return x, y, p.transposeA, p.transposeB

    if not p.HasField("weights"):
        return Layer(
            product,
            size=lambda x, y: product_size(*sized(x, y)),
            work=lambda x, y: product_work(*sized(x, y)),
            fewest=2,
            most=2,
        )
    weight = weights.read(p.weights, (columns, rows), "weights")  # column-major
    bias = weights.read(p.bias, (columns,), "bias") if p.hasBias else None

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        if x.ndim < 1 or x.shape[-1] != rows:
            raise DataError(f"{rows} columns are expected, got {list(x.shape)}")
        return linear.linear(_rounded(x) if p.int8DynamicQuantize else x, weight, bias, acc=acc)

    def size(x: Array, **_: Array) -> int:
        return prod((*x.shape[:-1], columns)) + x.size

    def work(x: Array, **_: Array) -> int:
        return x.size * columns

    return Layer(run, {"weight": weight} | ({} if bias is None else {"bias": bias}), size, work)


def _lookup(entries: int, width: int, p: Any, weights: Weights, last: int) -> Layer:
    """A row of a table for each index; the last axes of the input, `last` of them, are single."""
    table = weights.read(p.weights, (width, entries), "weights")
    bias = weights.read(p.bias, (width,), "bias") if p.hasBias else None

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        if x.ndim < last + 1 or x.shape[-last:] != (1,) * last:
            raise DataError(f"{last} single axes at the end are expected, got {list(x.shape)}")
        index = integers(x).reshape(x.shape[:-last])
        if index.size and not 0 <= index.min() <= index.max() < entries:
            raise DataError(f"indices must be from 0 to {entries - 1}, got {index.min()} to {index.max()}")
        found = weight.T[index]
        found = found if bias is None else found + bias
        return found.reshape(*found.shape, *([1] * (last - 1)))

    constants = {"weight": table} | ({} if bias is None else {"bias": bias})
    return Layer(run, constants, size=lambda x, **_: x.size * width)


def _embedding(p: Any, weights: Weights) -> Layer:
    return _lookup(int(p.inputDim), int(p.outputChannels), p, weights, 3)


def _embedding_nd(p: Any, weights: Weights) -> Layer:
    return _lookup(int(p.vocabSize), int(p.embeddingSize), p, weights, 1)


def _dot(p: Any, weights: Weights) -> Layer:
    acc = weights.policy.accumulator

    def run(x: Array, y: Array) -> Array:
        if x.shape != rank_at_least(y, 3).shape or x.shape[-2:] != (1, 1):
            raise DataError(
                f"two arrays of one shape that ends in 1, 1 are expected, "
                f"got {list(x.shape)} and {list(y.shape)}"
            )
        product = acc.sum(x * y, (x.ndim - 3,), True)
        if p.cosineSimilarity:
            product = product / np.sqrt(acc.sum(x * x, (x.ndim - 3,), True))
            product = product / np.sqrt(acc.sum(y * y, (y.ndim - 3,), True))
        return product

    return Layer(run, fewest=2, most=2)


LAYERS: Final[dict[str, Build]] = {
    "innerProduct": _inner_product,
    "batchedMatmul": _batched_matmul,
    "embedding": _embedding,
    "embeddingND": _embedding_nd,
    "dot": _dot,
}
