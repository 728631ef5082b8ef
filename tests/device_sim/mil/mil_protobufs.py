"""Small ML Programs and networks, as protobufs, and packages around them; no converter is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mil_specs
import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.proto import MIL_pb2

FLOAT = 65568


def value_type(dtype: str, shape: Sequence[int]) -> Any:
    made = MIL_pb2.ValueType()
    made.tensorType.dataType = MIL_pb2.DataType.Value(dtype.upper())
    made.tensorType.rank = len(shape)
    for size in shape:
        made.tensorType.dimensions.add().constant.size = size
    return made


def inline(array: Any) -> Any:
    """A value in the protobuf: of float32, int32, bool or strings."""
    found: NDArray[Any] = np.asarray(array)
    kind, field = {
        "f": ("float32", "floats"), "i": ("int32", "ints"),
        "b": ("bool", "bools"), "U": ("string", "strings"),
    }[found.dtype.kind]  # fmt: skip
    made = MIL_pb2.Value(type=value_type(kind, found.shape))
    getattr(made.immediateValue.tensor, field).values.extend(found.reshape(-1).tolist())
    return made


def blob(dtype: str, shape: Sequence[int], offset: int) -> Any:
    """A value in the weight file."""
    made = MIL_pb2.Value(type=value_type(dtype, shape))
    made.blobFileValue.fileName = "@model_path/weights/weight.bin"
    made.blobFileValue.offset = offset
    return made


def const(name: str, value: Any) -> Any:
    made = MIL_pb2.Operation(type="const")
    made.outputs.add(name=name, type=value.type)
    made.attributes["val"].CopyFrom(value)
    return made


def op(type_: str, output: str, shape: Sequence[int] = (1, 2), **inputs: Any) -> Any:
    """An operation of float32; inputs are names of values, or values."""
    made = MIL_pb2.Operation(type=type_)
    made.outputs.add(name=output, type=value_type("float32", shape))
    for key, given in inputs.items():
        argument = made.inputs[key].arguments.add()
        if isinstance(given, str):
            argument.name = given
        else:
            argument.value.CopyFrom(given)
    made.attributes["name"].CopyFrom(inline(output))
    return made


def program(*operations: Any, outputs: Sequence[str] = ("y",), function: str = "main") -> Any:
    """A model of one function, from `x` (1, 2)."""
    model = mil_specs.spec({"x": "array:1,2"}, dict.fromkeys(outputs, "array:1,2"))
    model.specificationVersion = 8
    add_function(model, function, *operations, outputs=outputs)
    return model


def add_function(model: Any, name: str, *operations: Any, outputs: Sequence[str] = ("y",)) -> None:
    model.mlProgram.version = 1
    made = model.mlProgram.functions[name]
    made.opset = "CoreML7"
    made.inputs.add(name="x", type=value_type("float32", (1, 2)))
    block = made.block_specializations["CoreML7"]
    block.outputs.extend(outputs)
    block.operations.extend(operations)


def network(layers: Mapping[str, Any], kind: str = "neuralNetwork") -> Any:
    """A chain of layers from `x` (2) to `y`: name -> what sets the layer's parameters."""
    model = mil_specs.spec({"x": "array:2"}, {"y": "array:2"})
    source = "x"
    for i, (name, fill) in enumerate(layers.items()):
        target = "y" if i == len(layers) - 1 else name
        layer = getattr(model, kind).layers.add(name=name, input=[source], output=[target])
        fill(layer)
        source = target
    return model


def dense(weights: Any, bias: Any = None) -> Any:
    """An inner product, (outputs, inputs)."""
    array: NDArray[Any] = np.asarray(weights, np.float32)

    def fill(layer: Any) -> None:
        layer.innerProduct.outputChannels, layer.innerProduct.inputChannels = array.shape
        layer.innerProduct.weights.floatValue.extend(array.reshape(-1).tolist())
        if bias is not None:
            layer.innerProduct.hasBias = True
            layer.innerProduct.bias.floatValue.extend(bias)

    return fill


def activation(kind: str) -> Any:
    return lambda layer: getattr(layer.activation, kind).SetInParent()


def trees() -> Any:
    """One tree of three nodes, of no section of its own."""
    made = mil_specs.spec({"x": "double"}, {"y": "double"})
    ensemble = made.treeEnsembleRegressor.treeEnsemble
    ensemble.numPredictionDimensions = 1
    ensemble.nodes.add(treeId=0, nodeId=0, trueChildNodeId=1, falseChildNodeId=2, branchFeatureValue=1.5)
    for node in (1, 2):
        ensemble.nodes.add(treeId=0, nodeId=node, nodeBehavior=6).evaluationInfo.add(evaluationValue=node)
    return made


def print_of(dtype: str, shape: str, data: bytes) -> str:
    """A fingerprint by the definition that files/fingerprint.py gives."""
    return hashlib.sha256(f"{dtype}\0{shape}\0".encode() + data).hexdigest()


def save_package(path: Path, model: Any, weights: bytes | None = None) -> Path:
    """An `.mlpackage`, as coremltools lays it out."""
    data = path / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(model.SerializeToString())
    if weights is not None:
        (data / "weights" / "weight.bin").write_bytes(weights)
    entries = {"model": {"path": "com.apple.CoreML/model.mlmodel"}}
    manifest = {"itemInfoEntries": entries, "rootModelIdentifier": "model", "fileFormatVersion": "1.0.0"}
    (path / "Manifest.json").write_text(json.dumps(manifest))
    return path
