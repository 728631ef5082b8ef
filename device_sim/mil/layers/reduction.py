"""Reductions, sorting and running sums."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.kernels.sorting import argsort, cumsum, topk
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import Build, Layer, choice, integers, kernel, listed, scalar
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array
from personality_common.errors import DataError

_AXES: Final = {"CHW": (-3, -2, -1), "HW": (-2, -1), "C": (-3,), "H": (-2,), "W": (-1,)}
_OPS: Final = {
    "SUM": "reduce_sum",
    "AVG": "reduce_mean",
    "PROD": "reduce_prod",
    "SUMSQUARE": "reduce_sum_square",
    "L1": "reduce_l1_norm",
    "L2": "reduce_l2_norm",
    "MAX": "reduce_max",
    "MIN": "reduce_min",
}


def _reduce(p: Any, weights: Weights) -> Layer:
    axes, mode, epsilon = _AXES[choice(p, "axis")], choice(p, "mode"), value(p, "epsilon")
    if mode == "ARGMAX":
        if len(axes) > 1:
            raise DataError("ARGMAX takes one axis, C, H or W")
        return kernel(weights, "reduce_argmax", lambda x: {"x": x, "axis": axes[0], "keep_dims": True})
    if mode == "LOGSUM":  # the sum of logarithms, unlike reduceLogSum
        return kernel(
            weights,
            "reduce_sum",
            lambda x: {"x": np.log(x + epsilon), "axes": axes, "keep_dims": True},
        )
    return kernel(weights, _OPS[mode], lambda x: {"x": x, "axes": axes, "keep_dims": True})


def _reduce_nd(op: str) -> Build:
    """Along `axes`, or all; a result without axes has one, as every value of a network has."""

    def build(p: Any, weights: Weights) -> Layer:
        axes = None if p.reduceAll else listed(p.axes, "axes")
        if axes == ():
            raise DataError("axes are expected, or reduceAll")
        return kernel(weights, op, lambda x: {"x": x, "axes": axes, "keep_dims": p.keepDims})

    return build


def _arg(op: str) -> Build:
    def build(p: Any, weights: Weights) -> Layer:
        return kernel(
            weights, op, lambda x: {"x": x, "axis": p.axis, "keep_dims": not p.removeDim or x.ndim == 1}
        )

    return build


def _topk(p: Any, weights: Weights) -> Layer:
    def run(x: Array, k: Array | None = None) -> tuple[Array, ...]:
        count = int(p.K) if k is None else int(integers(np.asarray(scalar(k))))
        return topk(x, count, p.axis, p.useBottomK)

    return Layer(run, most=2, gives=(2, 2), size=lambda x, *k: 2 * x.size)


def _argsort(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: argsort(x, p.axis, not p.descending))


def _cumsum(p: Any, weights: Weights) -> Layer:
    def run(x: Array, axis: Array | None = None) -> Array:
        along = p.axis if axis is None else int(integers(np.asarray(scalar(axis))))
        return cumsum(x, axis_in(along, x.ndim), p.excludeFinalSum, p.reverse)

    return Layer(run, most=2)


LAYERS: Final[dict[str, Build]] = {
    "reduce": _reduce,
    "reduceL1": _reduce_nd("reduce_l1_norm"),
    "reduceL2": _reduce_nd("reduce_l2_norm"),
    "reduceMax": _reduce_nd("reduce_max"),
    "reduceMin": _reduce_nd("reduce_min"),
    "reduceSum": _reduce_nd("reduce_sum"),
    "reduceProd": _reduce_nd("reduce_prod"),
    "reduceMean": _reduce_nd("reduce_mean"),
    "reduceLogSum": _reduce_nd("reduce_log_sum"),
    "reduceSumSquare": _reduce_nd("reduce_sum_square"),
    "reduceLogSumExp": _reduce_nd("reduce_log_sum_exp"),
    "argMax": _arg("reduce_argmax"),
    "argMin": _arg("reduce_argmin"),
    "topK": _topk,
    "argSort": _argsort,
    "cumSum": _cumsum,
}
