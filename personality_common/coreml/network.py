"""Layers and weights of Core ML neural networks, which hold their weights in the protobuf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from personality_common.coreml.package import MAX_NAME, Package

NETWORKS: Final = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
MAX_RANK: Final = 32
_WEIGHTS: Final = "CoreML.Specification.WeightParams"
_NETWORK: Final = "CoreML.Specification.NeuralNetwork"


@dataclass(frozen=True, eq=False)
class NetworkWeight:
    """One `WeightParams` of a layer."""

    name: str
    """Layer and field: `projection.weights`, `lstm.weightParams.0.forgetGateBias`."""
    dtype: str
    """`float32`, `float16`, `int8`, or `uint1` … `uint8` for quantized ones."""
    shape: tuple[int, ...]
    """Row-major; (elements,) where the layer's type does not tell."""
    size: int
    """Bytes."""
    updatable: bool
    params: Any

    def data(self) -> bytes:
        """The stored bytes, little-endian; quantized ones are packed."""
        if not self.params.floatValue:
            stored: bytes = self.params.float16Value or self.params.int8RawValue or self.params.rawValue
            return stored
        # Serialized, packed floats are exactly their bytes: much faster than one by one.
        only = type(self.params)()
        only.floatValue.MergeFrom(self.params.floatValue)
        serialized: bytes = only.SerializeToString()
        return serialized[len(serialized) - self.size :]


def network(package: Package) -> Any | None:
    """The `NeuralNetwork` message (or classifier, regressor) of a package; None for other kinds."""
    return getattr(package.spec, package.kind) if package.kind in NETWORKS else None


def layers(message: Any) -> Iterator[Any]:
    """The layers of a network in order, with those of branches and loops."""
    for layer in message.layers:
        yield layer
        kind = layer.WhichOneof("layer")
        if kind == "branch":
            yield from layers(layer.branch.ifBranch)
            yield from layers(layer.branch.elseBranch)
        elif kind == "loop":
            yield from layers(layer.loop.conditionNetwork)
            yield from layers(layer.loop.bodyNetwork)


def custom_classes(message: Any) -> Iterator[str]:
    """Class of each custom layer: what an app must bring to run the network."""
    for layer in layers(message):
        if layer.WhichOneof("layer") == "custom":
            yield layer.custom.className[:MAX_NAME]


def weights(message: Any) -> Iterator[NetworkWeight]:
    """All weights of a network in the order of its layers."""
    for layer in layers(message):
        kind = layer.WhichOneof("layer")
        if kind is None:
            continue
        params, name = getattr(layer, kind), layer.name[:MAX_NAME]
        for path, found in _weight_params(params):
            yield _weight(f"{name}.{path}", kind, params, path, found)


def _weight_params(message: Any) -> Iterator[tuple[str, Any]]:
    for descriptor, value in message.ListFields():
        nested = descriptor.message_type
        # Layers of branches and loops are walked as layers.
        if nested is None or nested.full_name == _NETWORK:
            continue
        if nested.GetOptions().map_entry:
            continue
        for suffix, item in _items(descriptor.name, value):
            if nested.full_name == _WEIGHTS:
                yield suffix, item
            else:
                yield from ((f"{suffix}.{path}", found) for path, found in _weight_params(item))


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "ListFields"):
        yield name, value
    else:
        yield from ((f"{name}.{i}", item) for i, item in enumerate(value))


def _weight(name: str, kind: str, params: Any, path: str, found: Any) -> NetworkWeight:
    if found.floatValue:
        dtype, bits, size = "float32", 32, 4 * len(found.floatValue)
    elif found.float16Value:
        dtype, bits, size = "float16", 16, len(found.float16Value)
    elif found.int8RawValue:
        dtype, bits, size = "int8", 8, len(found.int8RawValue)
    else:
        bits = found.quantization.numberOfBits or 8
        dtype, size = f"uint{bits}", len(found.rawValue)
    shape = _shape(kind, params, path)
    # Packed bytes may end in padding, so the declared shape decides if it takes as many bytes.
    if shape is None or len(shape) > MAX_RANK or -(-math.prod(shape) * bits // 8) != size:
        shape = (size * 8 // bits,)
    return NetworkWeight(name, dtype, shape, size, found.isUpdatable, found)


_VECTORS: Final = {
    **dict.fromkeys(("innerProduct", "embedding", "convolution"), "outputChannels"),
    "embeddingND": "embeddingSize",
    "batchedMatmul": "weightMatrixSecondDimension",
    "batchnorm": "channels",
}
"""The field that has the length of a bias, a gamma, a mean, …"""
_RECURRENT: Final = ("simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM")


def _shape(kind: str, params: Any, path: str) -> tuple[int, ...] | None:
    """Shape as NeuralNetwork.proto documents it, for the layers that hold nearly all weights.

    Of one that is too long, enough to see that it is.
    """
    if kind in _RECURRENT:
        size = params.outputVectorSize
        if path.endswith("Vector"):
            return (size,)
        return size, size if path.lower().endswith("recursionmatrix") else params.inputVectorSize
    if path == "weights":
        if kind == "innerProduct":
            return params.outputChannels, params.inputChannels
        if kind == "embedding":
            return params.outputChannels, params.inputDim
        if kind == "embeddingND":
            return params.embeddingSize, params.vocabSize
        if kind == "convolution":
            kernel = tuple(params.kernelSize[: MAX_RANK + 1]) or (3, 3)
            if params.isDeconvolution:
                return params.kernelChannels, params.outputChannels // max(params.nGroups, 1), *kernel
            return params.outputChannels, params.kernelChannels, *kernel
        if kind == "batchedMatmul":
            return params.weightMatrixFirstDimension, params.weightMatrixSecondDimension
    if kind in _VECTORS:
        return (getattr(params, _VECTORS[kind]),)
    if (path, kind) in (("data", "loadConstant"), ("data", "loadConstantND"), ("bias", "bias")):
        return tuple(params.shape[: MAX_RANK + 1])
    if kind == "scale":
        return tuple((params.shapeScale if path == "scale" else params.shapeBias)[: MAX_RANK + 1])
    return None
