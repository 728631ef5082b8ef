"""Conformance of reductions, matrix products, normalizations, attention.

Tolerances: sums of n terms in float32, in whatever order, differ by about sqrt(n) units of the
last place of the largest partial sum; n stays below 100 here. What cancels gets an `atol` of the
same size relative to the terms.
"""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from mil_harness import Case, axes, axis, bools, floats, ints, number, optional, shape
from torch.nn import functional as F


def _reduction(
    special: Any = None, low: float = -4, high: float = 4, with_ints: bool = True, kind: Any = None
) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        sizes = shape(draw, 1, 4)
        if with_ints and draw(st.integers(0, 3)) == 0:
            x = ints(draw, sizes, *((0, 9) if low >= 0 else (-9, 9)))
        else:
            x = floats(draw, sizes, low, high, special, kind)
        return {
            "x": x,
            "axes": optional(draw, axes(draw, x.ndim)),
            "keep_dims": optional(draw, draw(st.booleans())),
        }

    return draw


def _arg(draw: Any) -> dict[str, Any]:
    x = floats(draw, shape(draw, 1, 4), special=None)  # continuous: no ties, whose order is not defined
    keep = optional(draw, draw(st.booleans()))
    return {"x": x, "axis": optional(draw, axis(draw, x.ndim)), "keep_dims": keep}


def _arg_17(draw: Any) -> dict[str, Any]:
    return {**_arg(draw), "output_dtype": draw(st.sampled_from([None, "int32", "uint16"]))}


def _torch_arg(function: Any) -> Any:
    def reference(x: Any, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Any:
        return function(x, dim=axis, keepdim=keep_dims).to(torch.int32)

    return reference


def _torch_reduce(function: Any) -> Any:
    """Integers give integers: the fraction is dropped."""

    def reference(x: Any, axes: Any = None, keep_dims: bool = False) -> Any:
        over = tuple(range(x.ndim)) if axes is None else axes
        if x.dtype == torch.int32:
            return torch.trunc(function(x.double(), over, keep_dims)).to(torch.int32)
        return function(x, over, keep_dims)

    return reference


def _prod(x: Any, over: Any, keep: bool) -> Any:
    for a in sorted((a % x.ndim for a in over), reverse=True):
        x = torch.prod(x, a, keepdim=keep)
    return x


def _norm(order: int) -> Any:
    return lambda x, d, k: torch.linalg.vector_norm(x, order, d, k)


SUM: dict[str, Any] = {
    "ulps": 32,
    "atol": 2e-6,
    "apple_ulps": 32,
    "apple_if": lambda a: a["x"].dtype != np.float16,
    "note": "coremltools sums float16 in float16",
}
REDUCTION = [
    Case("reduce_argmax", _arg, _torch_arg(torch.argmax)),
    Case("reduce_argmax", _arg_17, _torch_arg(torch.argmax), opset="iOS17"),
    Case("reduce_argmin", _arg, _torch_arg(torch.argmin)),
    Case("reduce_argmin", _arg_17, _torch_arg(torch.argmin), opset="iOS17"),
    Case("reduce_l1_norm", _reduction(), _torch_reduce(_norm(1)), **SUM),
    Case("reduce_l2_norm", _reduction(), _torch_reduce(_norm(2)), **SUM),
    Case(
        "reduce_log_sum",
        _reduction(low=0.5, with_ints=False),
        _torch_reduce(lambda x, d, k: torch.log(torch.sum(x, d, k))),
        **SUM,
    ),
    Case("reduce_log_sum_exp", _reduction(with_ints=False), _torch_reduce(torch.logsumexp), **SUM),
    Case("reduce_max", _reduction(np.array([np.inf, -np.inf, np.nan])), _torch_reduce(torch.amax)),
    Case("reduce_mean", _reduction(), _torch_reduce(torch.mean), **SUM),
    Case("reduce_min", _reduction(np.array([np.inf, -np.inf, np.nan])), _torch_reduce(torch.amin)),
    # Products stay below 4**125 by keeping the factors near 1.
    Case(
        "reduce_prod",
        _reduction(low=0.7, high=1.3, with_ints=False),
        _torch_reduce(_prod),
        ulps=256,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools multiplies float16 in float16",
    ),
    Case("reduce_sum", _reduction(), _torch_reduce(torch.sum), **SUM),
    Case("reduce_sum_square", _reduction(), _torch_reduce(lambda x, d, k: torch.sum(x * x, d, k)), **SUM),
]


def _linear(draw: Any) -> dict[str, Any]:
    x = floats(draw, shape(draw, 1, 3, largest=9), special=None)
    weight = floats(draw, (draw(st.integers(1, 9)), x.shape[-1]), special=None, dtype=x.dtype)
    return {
        "x": x,
        "weight": weight,
        "bias": optional(draw, floats(draw, weight.shape[:1], special=None, dtype=x.dtype)),
    }


def _linear_17(draw: Any) -> dict[str, Any]:
    """Weights may have another type than x."""
    x = floats(draw, shape(draw, 1, 3, largest=9), special=None)
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    weight = floats(draw, (draw(st.integers(1, 9)), x.shape[-1]), special=None, dtype=dtype)
    return {
        "x": x,
        "weight": weight,
        "bias": optional(draw, floats(draw, weight.shape[:1], special=None, dtype=dtype)),
    }


def _matmul(draw: Any) -> dict[str, Any]:
    m, k, n = (draw(st.integers(1, 9)) for _ in range(3))
    batch = shape(draw, 0, 2, largest=3)
    first = tuple(1 if draw(st.integers(0, 3)) == 0 else size for size in batch)
    flip_x, flip_y = draw(st.booleans()), draw(st.booleans())
    x_shape = (*first, *((k, m) if flip_x else (m, k)))
    y_shape = (*batch, *((n, k) if flip_y else (k, n)))
    if draw(st.integers(0, 3)) == 0:
        x, y = ints(draw, x_shape), ints(draw, y_shape)
    else:
        x = floats(draw, x_shape, special=None)
        y = floats(draw, y_shape, special=None, dtype=x.dtype)
    return {"x": x, "y": y, "transpose_x": flip_x, "transpose_y": flip_y}


def _torch_matmul(x: Any, y: Any, transpose_x: bool, transpose_y: bool) -> Any:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _einsum(draw: Any) -> dict[str, Any]:
    b, c, h, w, u = (draw(st.integers(1, 5)) for _ in range(5))
    four = draw(st.booleans())
    h_x, h_y = draw(st.sampled_from([(h, h), (1, h), (h, 1)]))
    lead = (b,) if four else ()
    x = floats(draw, (*lead, c, h_x, w), special=None)
    y = floats(draw, (*lead, w, h_y, u), special=None, dtype=x.dtype)
    equation = draw(st.sampled_from(["nchw,nwhu->nchu", "bijk,bkjl->bijl"] if four else ["chw,whr->chr"]))
    return {"values": [x, y], "equation": equation}


def _torch_einsum(values: Any, equation: str) -> Any:
    x, y = values
    h = max(x.shape[-2], y.shape[-2])
    x, y = (v.expand(*v.shape[:-2], h, v.shape[-1]) for v in (x, y))
    return torch.einsum(equation, x, y)


PRODUCT: dict[str, Any] = {
    "ulps": 16,
    "atol": 4e-5,
    "apple_if": lambda a: all(v.dtype != np.float16 for v in a.values() if isinstance(v, np.ndarray)),
    "note": "coremltools multiplies float16 in float16",
}
LINEAR = [
    Case("linear", _linear, lambda x, weight, bias=None: F.linear(x, weight, bias), **PRODUCT),
    Case(
        "linear", _linear_17, lambda x, weight, bias=None: F.linear(x, weight, bias), opset="iOS17", **PRODUCT
    ),
    Case("matmul", _matmul, _torch_matmul, **PRODUCT),
    Case("matmul", _matmul, _torch_matmul, opset="iOS17", **PRODUCT),
    Case(
        "einsum",
        _einsum,
        _torch_einsum,
        ulps=16,
        atol=4e-5,
        apple_if=lambda a: a["values"][0].dtype != np.float16,
        note="coremltools multiplies float16 in float16",
    ),
]
del LINEAR[3]  # the same kernel serves both opsets


def _channels(draw: Any, x: np.ndarray, *names: str, low: float = -2) -> dict[str, Any]:
    return {name: floats(draw, x.shape[1:2], low, 2, None, x.dtype) for name in names}


def _batch_norm(draw: Any) -> dict[str, Any]:
    x = floats(draw, shape(draw, 3, 5), special=None)
    affine = _channels(draw, x, "gamma", "beta") if draw(st.booleans()) else {}
    statistics = {**_channels(draw, x, "mean"), **_channels(draw, x, "variance", low=0.1)}
    return {"x": x, **statistics, **affine, "epsilon": optional(draw, number(draw, 0.01, 1))}


def _instance_norm(draw: Any) -> dict[str, Any]:
    x = floats(draw, (*shape(draw, 2, 2), *shape(draw, 1, 2, smallest=2)), special=None)
    affine = _channels(draw, x, "gamma", "beta") if draw(st.booleans()) else {}
    return {"x": x, **affine, "epsilon": number(draw, 0.1, 1)}


def _layer_norm(draw: Any) -> dict[str, Any]:
    x = floats(draw, shape(draw, 1, 4), special=None)
    first = draw(st.integers(0, x.ndim - 1))
    over = tuple(a - x.ndim * draw(st.integers(0, 1)) for a in range(first, x.ndim))
    affine = {}
    if draw(st.booleans()):
        affine = {name: floats(draw, x.shape[first:], -2, 2, None, x.dtype) for name in ("gamma", "beta")}
    return {"x": x, "axes": over, **affine, "epsilon": number(draw, 0.1, 1)}


def _torch_layer_norm(x: Any, epsilon: float, axes: Any = None, gamma: Any = None, beta: Any = None) -> Any:
    count = x.ndim if axes is None else len(axes)
    return F.layer_norm(x, x.shape[x.ndim - count :], gamma, beta, epsilon)


def _torch_l2(x: Any, epsilon: float) -> Any:
    return x / torch.sqrt(torch.linalg.vector_norm(x, 2, (-3, -2, -1), True) ** 2 + epsilon)


# Differences of numbers around 1 are what is compared here.
NORM: dict[str, Any] = {
    "ulps": 32,
    "atol": 5e-6,
    "apple_if": lambda a: a["x"].dtype != np.float16,
    "note": "coremltools sums float16 in float16",
}
NORMALIZATION = [
    Case(
        "batch_norm",
        _batch_norm,
        lambda x, mean, variance, gamma=None, beta=None, epsilon=1e-5: F.batch_norm(
            x, mean, variance, gamma, beta, eps=epsilon
        ),
        ulps=32,
        atol=2e-5,
        apple=False,
    ),
    Case(
        "instance_norm",
        _instance_norm,
        lambda x, epsilon, gamma=None, beta=None: F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon),
        ulps=32,
        atol=5e-6,
        apple=False,
    ),
    Case(
        "l2_norm",
        lambda draw: {"x": floats(draw, shape(draw, 3, 5), special=None), "epsilon": number(draw, 0.1, 1)},
        _torch_l2,
        **NORM,
    ),
    Case("layer_norm", _layer_norm, _torch_layer_norm, **NORM),
]


def _attention(draw: Any) -> dict[str, Any]:
    batch = shape(draw, 1, 2, largest=3)
    target, source, size, values = (draw(st.integers(1, 5)) for _ in range(4))
    query = floats(draw, (*batch, target, size), special=None)
    key = floats(draw, (*batch, source, size), special=None, dtype=query.dtype)
    value = floats(draw, (*batch, source, values), special=None, dtype=query.dtype)
    mask = None
    if draw(st.booleans()):
        mask_shape = (*(1 for _ in batch), target, source)[draw(st.integers(0, len(batch))) :]
        mask = (
            bools(draw, mask_shape)
            if draw(st.booleans())
            else floats(draw, mask_shape, special=None, dtype=query.dtype)
        )
        if mask.dtype == np.bool_:
            mask[..., 0] = True  # a row that attends to nothing is NaN in one reference and 0 in another
    return {"query": query, "key": key, "value": value, "attn_mask": mask}


ATTENTION = [
    Case(
        "scaled_dot_product_attention",
        _attention,
        lambda query, key, value, attn_mask=None: F.scaled_dot_product_attention(
            query, key, value, attn_mask
        ),
        ulps=32,
        atol=1e-5,
        opset="iOS18",
        apple_if=lambda a: a["query"].dtype != np.float16,
        note="coremltools multiplies float16 in float16",
    ),
]

CASES = REDUCTION + LINEAR + NORMALIZATION + ATTENTION
