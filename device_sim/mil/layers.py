"""Layers of neural networks as functions of arrays; most are kernels of MIL under another name.

Source: Core ML's NeuralNetwork.proto (coremltools, mlmodel/format).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels import activation, linear, normalization
from device_sim.mil.kernels._sizes import broadcast
from device_sim.mil.kernels.slicing import concat
from device_sim.mil.limits import Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.types import MAX_RANK, Array, prod
from personality_common.coreml.network import NetworkWeight
from personality_common.errors import DataError

_CHANNEL: Final = -3
_MANY: Final = 1024


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with its weights bound."""

    run: Callable[..., Any]
    """Of its input x, or of several in order; and of `constants` by name."""
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


@dataclass(frozen=True, slots=True)
class Weights:
    """Reads weights in the type that the policy computes in."""

    policy: Policy
    usage: Usage

    def read(self, proto: Any, shape: tuple[int, ...], name: str) -> Array:
        """Float32 or float16 weights.

        Raises:
            DataError: quantized, not as many as the shape has, or beyond the limits.
        """
        if proto.rawValue or proto.int8RawValue or proto.HasField("quantization"):
            raise DataError(f"{name}: quantized weights are not supported")
        if len(proto.float16Value) % 2:
            raise DataError(f"{name}: {len(proto.float16Value)} bytes are no whole number of float16")
        count = len(proto.float16Value) // 2 or len(proto.floatValue)
        if count != prod(shape):
            raise DataError(f"{name} must have {prod(shape)} values for shape {list(shape)}, got {count}")
        self.usage.check_value(count, self.policy.compute.itemsize, name)
        stored = NetworkWeight(name, "float32", shape, 4 * len(proto.floatValue), False, proto)
        flat = (
            np.frombuffer(proto.float16Value, "<f2")
            if proto.float16Value
            else np.frombuffer(stored.data(), "<f4")
        )
        value = self.policy.constant(flat.reshape(shape))
        value.flags.writeable = False
        self.usage.budget.held += value.nbytes
        return value


def _shape(sizes: Sequence[int], least: int = 0) -> tuple[int, ...]:
    """Sizes from the protobuf, which may be any number of any integers; `least` is -1 where one is free."""
    if len(sizes) > MAX_RANK or min(sizes, default=least) < least:
        raise DataError(f"a shape has {MAX_RANK} sizes at most, none below {least}, got {list(sizes[:8])}")
    return tuple(sizes)


def _inner_product(p: Any, weights: Weights) -> Layer:
    if p.int8DynamicQuantize:
        raise DataError("dynamic quantization is not supported")
    inputs, outputs = int(p.inputChannels), int(p.outputChannels)
    weight = weights.read(p.weights, (outputs, inputs), "weights")
    bias = weights.read(p.bias, (outputs,), "bias") if p.hasBias else None

    def matrix(x: Array) -> Array:
        """Rank 4 and 5 multiply all of the last three axes; the others the last one."""
        flat = x.reshape(*x.shape[:-3], -1) if x.ndim in (4, 5) else x
        if x.ndim < 1 or flat.shape[-1] != inputs:
            raise DataError(f"{inputs} input channels are expected, got {list(x.shape)}")
        return flat

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        result = linear.linear(matrix(x), weight, bias, acc=weights.policy.accumulator)
        return result[..., None, None] if x.ndim in (4, 5) else result

    def size(x: Array, **_: Array) -> int:
        return prod(matrix(x).shape[:-1]) * outputs

    def work(x: Array, **_: Array) -> int:
        return x.size * outputs

    return Layer(run, {"weight": weight} | ({} if bias is None else {"bias": bias}), size, work)


def _along_channel(vector: Array, x: Array) -> Array:
    """A value for each channel, or one for all, shaped to go along axis -3."""
    if vector.size == 1:
        return vector.reshape(())
    if x.ndim < 3 or x.shape[_CHANNEL] != vector.size:
        raise DataError(f"{vector.size} channels on axis -3 are expected, got {list(x.shape)}")
    return vector.reshape(-1, 1, 1)


def _activation(p: Any, weights: Weights) -> Layer:
    kind = p.WhichOneof("NonlinearityType")
    a: Any = getattr(p, kind) if kind else None
    simple: dict[str, Callable[[Array], Array]] = {
        "linear": lambda x: activation.linear_activation(x, a.alpha, a.beta),
        "ReLU": activation.relu,
        "leakyReLU": lambda x: activation.leaky_relu(x, a.alpha),
        "thresholdedReLU": lambda x: activation.thresholded_relu(x, a.alpha),
        "tanh": lambda x: np.tanh(x),
        "scaledTanh": lambda x: activation.scaled_tanh(x, a.alpha, a.beta),
        "sigmoid": activation.sigmoid,
        "sigmoidHard": lambda x: activation.sigmoid_hard(x, a.alpha, a.beta),
        "ELU": lambda x: activation.elu(x, a.alpha),
        "softsign": activation.softsign,
        "softplus": activation.softplus,
    }
    if kind in simple:
        return Layer(simple[kind])
    if kind == "PReLU":
        slope = weights.read(a.alpha, (len(a.alpha.floatValue),), "alpha")
        return Layer(lambda x: np.where(x > 0, x, x * _along_channel(slope, x)))
    if kind == "parametricSoftplus":
        alpha = weights.read(a.alpha, (len(a.alpha.floatValue),), "alpha")
        beta = weights.read(a.beta, (len(a.beta.floatValue),), "beta")
        return Layer(lambda x: _along_channel(alpha, x) * activation.softplus(x * _along_channel(beta, x)))
    raise DataError(f"activation {kind} is not supported")


def _softmax(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: activation.softmax(x, _CHANNEL, acc=weights.policy.accumulator))


def _softmax_nd(p: Any, weights: Weights) -> Layer:
    return Layer(lambda x: activation.softmax(x, p.axis, acc=weights.policy.accumulator))


def _fold(function: Callable[[Any, Any], Any]) -> Callable[[Any, Weights], Layer]:
    """Of all inputs; with one input, of it and `alpha`."""

    def build(p: Any, weights: Weights) -> Layer:
        def run(*arrays: Array) -> Array:
            return reduce(function, arrays) if len(arrays) > 1 else function(arrays[0], p.alpha)

        return Layer(run, size=broadcast, most=_MANY)

    return build


def _broadcastable(function: Callable[..., Any], most: int) -> Callable[[Any, Weights], Layer]:
    def build(p: Any, weights: Weights) -> Layer:
        return Layer(lambda *arrays: reduce(function, arrays), size=broadcast, fewest=2, most=most)

    return build


def _concat(p: Any, weights: Weights) -> Layer:
    axis = -5 if p.sequenceConcat else _CHANNEL
    return Layer(lambda *arrays: concat(arrays, axis), most=_MANY)


def _concat_nd(p: Any, weights: Weights) -> Layer:
    return Layer(lambda *arrays: concat(arrays, p.axis, p.interleave), most=_MANY)


def _reshape(p: Any, weights: Weights) -> Layer:
    """Of the last three axes of rank 5, or four of them from the second."""
    if p.mode != p.CHANNEL_FIRST or len(p.targetShape) not in (3, 4):
        raise DataError("reshape is supported channel first, to three or four sizes")
    target = _shape(p.targetShape, -1)

    def run(x: Array) -> Array:
        if x.ndim != 5:
            raise DataError(f"rank 5 is expected, got {list(x.shape)}")
        if len(target) == 3:
            return x.reshape(*x.shape[:2], *target)
        return np.moveaxis(np.moveaxis(x, 0, 1).reshape(x.shape[1], *target), 0, 1)

    return Layer(run)


def _reshape_static(p: Any, weights: Weights) -> Layer:
    target = _shape(p.targetShape, -1)
    return Layer(lambda x: x.reshape(target))


def _batchnorm(p: Any, weights: Weights) -> Layer:
    if p.computeMeanVar or p.instanceNormalization:
        raise DataError("only the given mean and variance are supported")
    channels = (p.channels,)
    scale = 1 / np.sqrt(weights.read(p.variance, channels, "variance") + p.epsilon)
    scale = scale * weights.read(p.gamma, channels, "gamma")
    mean, beta = weights.read(p.mean, channels, "mean"), weights.read(p.beta, channels, "beta")
    return Layer(lambda x: (x - _along_channel(mean, x)) * _along_channel(scale, x) + _along_channel(beta, x))


def _layer_normalization(p: Any, weights: Weights) -> Layer:
    shape = _shape(p.normalizedShape)
    gamma, beta = weights.read(p.gamma, shape, "gamma"), weights.read(p.beta, shape, "beta")
    axes = tuple(range(-len(shape), 0))
    return Layer(
        lambda x: normalization.layer_norm(x, axes, gamma, beta, p.eps, acc=weights.policy.accumulator)
    )


def _load_constant(p: Any, weights: Weights) -> Layer:
    value = weights.read(p.data, _shape(p.shape), "data")
    value = value[None, None] if len(p.shape) == 3 else value
    return Layer(lambda: value, fewest=0, most=0)


def _load_constant_nd(p: Any, weights: Weights) -> Layer:
    value = weights.read(p.data, _shape(p.shape), "data")
    return Layer(lambda: value, fewest=0, most=0)


def _unary(p: Any, weights: Weights) -> Layer:
    functions: dict[str, Callable[[Array], Any]] = {
        "SQRT": np.sqrt,
        "RSQRT": lambda x: 1 / np.sqrt(x + p.epsilon),
        "INVERSE": lambda x: 1 / (x + p.epsilon),
        "POWER": lambda x: np.power(x, p.alpha),
        "EXP": np.exp,
        "LOG": lambda x: np.log(x + p.epsilon),
        "ABS": np.abs,
        "THRESHOLD": lambda x: np.maximum(x, p.alpha),
    }
    names = p.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    if p.type not in names:
        raise DataError(f"unary function {p.type} is unknown")
    function = functions[names[p.type].name]
    return Layer(lambda x: function(x * p.scale + p.shift))


def _gelu(p: Any, weights: Weights) -> Layer:
    names = p.DESCRIPTOR.fields_by_name["mode"].enum_type.values_by_number
    if p.mode not in names:
        raise DataError(f"mode {p.mode} of gelu is unknown")
    mode = names[p.mode].name
    return Layer(lambda x: activation.gelu(x, mode))


def _elementwise(function: Callable[[Array], Any]) -> Callable[[Any, Weights], Layer]:
    return lambda p, weights: Layer(lambda x: function(x))


LAYERS: Final[dict[str, Callable[[Any, Weights], Layer]]] = {
    "innerProduct": _inner_product,
    "activation": _activation,
    "softmax": _softmax,
    "softmaxND": _softmax_nd,
    "add": _fold(np.add),
    "multiply": _fold(np.multiply),
    "addBroadcastable": _broadcastable(np.add, _MANY),
    "multiplyBroadcastable": _broadcastable(np.multiply, _MANY),
    "subtractBroadcastable": _broadcastable(np.subtract, 2),
    "divideBroadcastable": _broadcastable(np.divide, 2),
    "concat": _concat,
    "concatND": _concat_nd,
    "reshape": _reshape,
    "reshapeStatic": _reshape_static,
    "batchnorm": _batchnorm,
    "layerNormalization": _layer_normalization,
    "loadConstant": _load_constant,
    "loadConstantND": _load_constant_nd,
    "unary": _unary,
    "gelu": _gelu,
    "tanh": _elementwise(np.tanh),
    "copy": _elementwise(lambda x: x),
}
