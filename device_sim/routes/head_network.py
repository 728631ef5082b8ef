"""The updatable neural network that holds the head in its protobuf: found, read, written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.network import weights
from personality_common.coreml.package import Package
from personality_common.coreml.writing import serialize
from personality_common.errors import DataError

Array = NDArray[np.float32]


def updatable_head(package: Package) -> Any:
    """The `NeuralNetwork` of an updatable package, or of the last model of an updatable pipeline.

    Raises:
        DataError: there is none, or it is more than one inner product that may change.
    """
    last = package.submodels[-1] if package.submodels else package
    if last.kind != "neuralNetwork" or not last.spec.isUpdatable or not package.spec.isUpdatable:
        raise DataError(
            f"{package.path}: must be an updatable neural network or an updatable pipeline that ends in one,"
            f" it is {package.kind}"
        )
    network = last.spec.neuralNetwork
    layers = [(layer.WhichOneof("layer"), layer.isUpdatable) for layer in network.layers]
    if layers != [("innerProduct", True)]:
        raise DataError(
            f"{package.path}: its head must be one updatable innerProduct, its layers are {layers[:8]}"
        )
    return network


def read_head(network: Any, where: str) -> tuple[Array, Array]:
    """Weight (V, d) and bias (V,) of the inner product.

    Raises:
        DataError: one of them is missing, not float32, or may not change.
    """
    found = {weight.name.rsplit(".", 1)[-1]: weight for weight in weights(network)}
    arrays = []
    for name, rank in (("weights", 2), ("bias", 1)):
        weight = found.get(name)
        if weight is None or not weight.updatable or weight.dtype != "float32" or len(weight.shape) != rank:
            got = "missing" if weight is None else f"{weight.dtype} {weight.shape}"
            raise DataError(f"{where}: {name} of its head must be updatable float32, got {got}")
        arrays.append(np.frombuffer(weight.data(), "<f4").reshape(weight.shape).astype(np.float32))
    if arrays[1].shape != arrays[0].shape[:1]:
        raise DataError(f"{where}: weight and bias must be (V, d) and (V,), got {[a.shape for a in arrays]}")
    return arrays[0], arrays[1]


def write_head(path: Path, weight: Array, bias: Array) -> None:
    """Replace the head in the protobuf of a package that is ours to change."""
    package = Package.open(path)
    product = updatable_head(package).layers[0].innerProduct
    for params, array in ((product.weights, weight), (product.bias, bias)):
        params.floatValue[:] = array.ravel().tolist()
    package.model_file.write_bytes(serialize(package.spec))
