"""Activations, also those of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import activation
from device_sim.mil.layers.layer import CHANNEL, Build, Layer, choice, rank_at_least
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array
from personality_common.errors import DataError


def along_channel(vector: Array, x: Array) -> Array:
    """A value for each channel, or one for all, shaped to go along axis -3.

    Raises:
        DataError: not as many.
    """
    if vector.size == 1:
        return vector.reshape(())
    if x.ndim < 3 or x.shape[CHANNEL] != vector.size:
        raise DataError(f"{vector.size} channels on axis -3 are expected, got {list(x.shape)}")
    return vector.reshape(-1, 1, 1)


def plain_activation(p: Any) -> Callable[[Array], Array] | None:
    """An `ActivationParams` that needs no weights; None for one that does, or an unknown one."""
    kind = p.WhichOneof("NonlinearityType")
    a: Any = getattr(p, kind) if kind else None
    simple: dict[str | None, Callable[[Array], Array]] = {
        "linear": lambda x: activation.linear_activation(x, a.alpha, a.beta),
        "ReLU": activation.relu,
        "leakyReLU": lambda x: activation.leaky_relu(x, a.alpha),
        "thresholdedReLU": lambda x: activation.thresholded_relu(x, a.alpha),
        "tanh": np.tanh,
        "scaledTanh": lambda x: activation.scaled_tanh(x, a.alpha, a.beta),
        "sigmoid": activation.sigmoid,
        "sigmoidHard": lambda x: activation.sigmoid_hard(x, a.alpha, a.beta),
        "ELU": lambda x: activation.elu(x, a.alpha),
        "softsign": activation.softsign,
        "softplus": activation.softplus,
    }
    return simple.get(kind)


def _activation(p: Any, weights: Weights) -> Layer:
    if (simple := plain_activation(p)) is not None:
        return Layer(simple)
    kind = p.WhichOneof("NonlinearityType")
    if kind == "PReLU":
        slope = weights.vector(p.PReLU.alpha, "alpha")
        return Layer(lambda x: np.where(x > 0, x, x * along_channel(slope, x)))
    if kind == "parametricSoftplus":
        alpha = weights.vector(p.parametricSoftplus.alpha, "alpha")
        beta = weights.vector(p.parametricSoftplus.beta, "beta")
        return Layer(lambda x: along_channel(alpha, x) * activation.softplus(x * along_channel(beta, x)))
    raise DataError(f"activation {kind} is not supported")


def _softmax(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: activation.softmax(rank_at_least(x, 3), CHANNEL, acc=weights.policy.accumulator))


def _softmax_nd(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: activation.softmax(x, p.axis, acc=weights.policy.accumulator))


def _gelu(p: Any, weights: Weights) -> Layer:
    mode = choice(p, "mode")
    return Layer(lambda x: activation.gelu(x, mode))


def _clamped_relu(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: activation.clamped_relu(x, p.alpha, p.beta))


LAYERS: Final[dict[str, Build]] = {
    "activation": _activation,
    "softmax": _softmax,
    "softmaxND": _softmax_nd,
    "gelu": _gelu,
    "clampedReLU": _clamped_relu,
}
