"""What the conformance suite cannot reach through coremltools, by hand; and what kernels refuse."""

from typing import Any

import numpy as np
import pytest
import torch

from device_sim.mil.kernels import gather_scatter, normalization, shape, slicing, sorting, tensor, unary
from device_sim.mil.kernels.activation import gelu, sigmoid, silu, softmax, softplus
from device_sim.mil.kernels.compression import constexpr_blockwise_shift_scale, dequantize
from device_sim.mil.numerics import Accumulator

ACC = Accumulator()


def test_defaults_that_coremltools_cannot_evaluate() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    over_all = torch.nn.functional.layer_norm(torch.from_numpy(x), (2, 3)).numpy()
    np.testing.assert_allclose(normalization.layer_norm(x, acc=ACC), over_all, atol=1e-6)
    assert shape.squeeze(np.ones((1, 1))).shape == ()
    assert shape.squeeze(np.ones((1, 2, 1)), (0, 1)).shape == (2, 1)
    # From the documentation of flatten2d.
    for size, axis, expected in (
        ((3,), -1, (1, 3)),
        ((3,), 1, (3, 1)),
        ((4, 3), -1, (4, 3)),
        ((5, 5, 2), 1, (5, 10)),
    ):
        assert shape.flatten2d(np.ones(size), axis).shape == expected
    # From the documentation of reshape in iOS 17.
    assert shape.reshape_17(np.ones((2, 50)), (1, 0, -1, 0)).shape == (1, 1, 2, 50)


@pytest.mark.parametrize("reverse", [False, True])
def test_exclusive_cumsum(reverse: bool) -> None:
    x = np.array([[1, 2, 4], [8, 16, 32]])
    expected = [[6, 4, 0], [48, 32, 0]] if reverse else [[0, 1, 3], [0, 8, 24]]
    assert sorting.cumsum(x, 1, exclusive=True, reverse=reverse).tolist() == expected
    assert sorting.cumsum(np.array([1, np.inf, 2]), 0, exclusive=True).tolist() == [0, 1, np.inf]


def test_sorting_keeps_the_order_of_ties() -> None:
    x = np.array([2, 1, 2, 1], np.int32)
    assert sorting.argsort(x).tolist() == [0, 2, 1, 3]
    assert sorting.argsort(x, ascending=True).tolist() == [1, 3, 0, 2]
    assert sorting.argsort(np.array([np.iinfo(np.int32).min, 0], np.int32)).tolist() == [1, 0]
    values, indices = sorting.topk_17(x, k=-1)
    assert (values.tolist(), indices.tolist()) == ([2, 2, 1, 1], [0, 2, 1, 3])


@pytest.mark.parametrize(
    ("mode", "expected"), [("div", [1, 2, 2]), ("add", [8, 8, 4]), ("update", [4, 4, 4])]
)
def test_scatter_modes(mode: str, expected: list[int]) -> None:
    data = np.array([4, 8, 4], np.float32)
    if mode == "add":
        indices, updates = np.array([0, 0]), np.array([3, 1], np.float32)
    elif mode == "div":
        indices, updates = np.array([0, 1, 1, 2]), np.array([4, 2, 2, 2], np.float32)
    else:
        indices, updates = np.array([1]), np.array([4], np.float32)
    assert gather_scatter.scatter(data, indices, updates, mode=mode).tolist() == expected
    assert data.tolist() == [4, 8, 4]


def test_extremes_of_activations() -> None:
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    with np.errstate(all="ignore"):
        assert sigmoid(x).tolist() == [0, 0, 0.5, 1, 1]
        assert silu(x).tolist() == [0, 0, 0, 100, 1e4]
        assert softplus(x)[[0, 3, 4]].tolist() == [0, 100, 1e4]
        assert gelu(x).tolist() == [0, 0, 0, 100, 1e4]
        assert softmax(x, acc=ACC).tolist() == [0, 0, 0, 0, 1]
        assert softmax(np.full(3, -np.inf, np.float32), acc=ACC).tolist() != [0, 0, 0]


def test_gelu_in_float64_and_in_odd_layouts() -> None:
    x = np.random.default_rng(0).normal(size=(50, 700)) * 3
    expected = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(gelu(x), expected, rtol=1e-13, atol=1e-15)
    # More than one block, and not contiguous.
    np.testing.assert_allclose(gelu(x.astype(np.float32).T), expected.T, atol=2e-6)


def test_empty_arrays() -> None:
    none = np.empty((0, 3), np.float32)
    assert gelu(none).shape == (0, 3)
    assert softmax(none, -1, acc=ACC).shape == (0, 3)
    assert sorting.topk(none, 2)[0].shape == (0, 2)
    assert gather_scatter.gather(none, np.array([], np.int32)).shape == (0, 3)
    assert shape.reshape(none, (-1, 3)).shape == (0, 3)
    assert tensor.range_1d(0, 5, 1).size == 0
    assert slicing.concat([none, none], 0).shape == (0, 3)


X = np.ones((2, 3), np.float32)
I = np.array([0, 3], np.int32)  # noqa: E741


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unary.clip_17(X, 2.0, 1.0), "alpha must be smaller than beta"),
        (lambda: unary.cast(X, "int8"), "dtype must be one of int32, fp16, fp32, bool"),
        (lambda: gelu(X, "FAST"), "mode must be EXACT"),
        (lambda: shape.reshape(X, (-1, -1)), "one -1"),
        (lambda: shape.reshape(X, (0, 3, 1)), "must have the rank of x"),
        (lambda: shape.reshape(X, (4, 2)), "cannot reshape"),
        (lambda: gather_scatter.gather(X, I, 1), "out of bounds"),
        (lambda: gather_scatter.gather_17(X, -I, 1, 0, True), "indices must be below 3, got -3 to 0"),
        (lambda: gather_scatter.gather_nd_17(X, np.array([[0, 3]]), 0, True), "below 3"),
        (lambda: gather_scatter.scatter(X, I[:1], X[:, :1], 1, "xor"), "mode must be update or one of"),
        (lambda: gather_scatter.gather_along_axis(X, np.zeros((3, 3), int), 1), "must have the shape of x"),
        (lambda: slicing.split(X, 1, num_splits=2), "cannot be split into 2 equal parts"),
        (lambda: slicing.split(X, 1, split_sizes=(1, 1)), "must add up to 3"),
        (lambda: slicing.slice_by_size(X, (0, 2), (2, 2)), "leave x"),
        (lambda: slicing.slice_update(X, X, (0, 0), (1, 3)), "must have the slice's shape"),
        (lambda: slicing.slice_by_index(X, (0,), (1,)), "must have length 2"),
        (lambda: slicing.sliding_windows(X, 1, 4), "do not fit axis 1"),
        (lambda: sorting.topk(X, 4), "k must be from 0 to 3"),
        (lambda: softmax(X, 2, acc=ACC), "axis 2 is out of range for rank 2"),
        (lambda: normalization.layer_norm(X, (1,), gamma=X, acc=ACC), "gamma must have shape"),
        (lambda: normalization.layer_norm(X, (1, -1), acc=ACC), "name an axis twice"),
        (lambda: normalization.batch_norm(X, X[0], X[0, :1]), "variance must have one value per channel"),
        (lambda: tensor.range_1d(1.0, 0.0, 0.0), "step not 0"),
        (lambda: dequantize(X, X[0], None, 0), "must be a scalar or go along axis 0"),
        (lambda: constexpr_blockwise_shift_scale(X, X[:, :2]), "must divide data"),
        (lambda: shape.reverse_sequence(X, I + 1, 1, 0), "lengths must be from 0 to 3"),
        (lambda: shape.pixel_shuffle(np.ones((1, 3, 2, 2)), 2), "cannot be divided"),
    ],
)
def test_what_kernels_refuse(call: Any, message: str) -> None:
    with pytest.raises((ValueError, IndexError), match=message):
        call()
