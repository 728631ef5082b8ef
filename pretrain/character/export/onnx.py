"""The network as one ONNX file, written node by node.

`torch.onnx` writes 14 kB of stack traces with local paths, puts weights into a second file, and picks an IR
version that older runtimes refuse. These graphs are a dozen nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.bundle.stored import stored_values
from personality_common.onnx.parsing import import_onnx
from pretrain.character.bundle.manifest import INPUT
from pretrain.character.config import ModelName, Weights
from pretrain.character.model import LIMIT, SEED_WIDTHS
from pretrain.character.schema import FEATURES, HEADS, Schema

if TYPE_CHECKING:
    import onnx

OPSET: Final = 18
IR_VERSION: Final = 8
"""Loads in ONNX Runtime 1.17 and later, which takes up to 9; an exporter of today writes 10 or more."""
PRODUCER: Final = "personality-toolkit"

Values = Mapping[str, NDArray[np.float32]]
"""Parameters by PyTorch's name."""


def build_onnx(
    values: Values,
    name: ModelName,
    schema: Schema,
    weights: Weights,
    metadata: Mapping[str, str],
    int8: Collection[str] = (),
) -> bytes:
    """The serialized model: `features` (batch, 453) float32 -> the four heads, (batch, size) float32 each.

    The same values give the same bytes.

    Args:
        values: of the network.
        name: which network it is.
        weights: how its matrices are stored; arithmetic is float32. `int8`: those named in `int8`
            symmetrically, with a scale per row; the others in float16.
        metadata: written to `metadata_props`, in alphabetical order.
        int8: names of matrices.

    Raises:
        ToolkitError: the package `onnx` is not installed, or a value is not finite as stored.
    """
    helper = import_onnx().helper
    graph = _Graph(values, weights, int8)
    if name == "skip":
        _skip(graph, schema)
    else:
        _seed(graph)
    float32 = import_onnx().TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "character",
            [helper.make_tensor_value_info(INPUT, float32, ["batch", FEATURES])],
            [
                helper.make_tensor_value_info(head, float32, ["batch", place.stop - place.start])
                for head, place in schema.heads.items()
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        producer_version=version(PRODUCER),
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and constants, in the order in which they are added."""

    def __init__(self, values: Values, weights: Weights, int8: Collection[str]) -> None:
        self.values = values
        self.weights = weights
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        helper = import_onnx().helper
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        little = value.astype(value.dtype.newbyteorder("<"))
        self.initializers.append(import_onnx().numpy_helper.from_array(little, name))
        return name

    def parameter(self, name: str) -> str:
        return self.constant(name, self.values[name])

    def matrix(self, name: str) -> str:
        """A matrix as it is stored, and the nodes that make it float32 again."""
        value = self.values[name]
        to = import_onnx().TensorProto.FLOAT
        if self.weights == "float16" or (self.weights == "int8" and name not in self.int8):
            self.constant(f"{name}.float16", stored_values(name, value, "float16"))
            return self.op("Cast", [f"{name}.float16"], name, to=to)
        if self.weights == "int8":
            rounded, scale = quantize(value)
            whole = self.op("Cast", [self.constant(f"{name}.int8", rounded)], f"{name}.whole", to=to)
            # Not DequantizeLinear, which ONNX's reference evaluator has only for later opsets.
            return self.op("Mul", [whole, self.constant(f"{name}.scale", scale)], name)
        return self.constant(name, value)

    def linear(self, x: str, name: str, output: str) -> str:
        inputs = [x, self.matrix(f"{name}.weight"), self.parameter(f"{name}.bias")]
        return self.op("Gemm", inputs, output, transB=1)

    def hidden(self, x: str, name: str) -> str:
        return self.op("Relu", [self.linear(x, name, f"{name}.linear")], f"{name}.relu")

    def split(self, x: str, sizes: str, outputs: tuple[str, ...]) -> None:
        helper = import_onnx().helper
        self.nodes.append(helper.make_node("Split", [x, sizes], list(outputs), name="split", axis=1))


def int8_choices(values: Values) -> list[list[str]]:
    """Names of the matrices that are rounded to int8, the most first: all that read the input, then each
    alone.

    The others hold an eighth of the weights, and their errors go into logits as they are.
    """
    read = [name for name, value in values.items() if value.ndim == 2 and value.shape[1] == FEATURES]
    alone = sorted(([name] for name in read), key=lambda names: -values[names[0]].size)
    return alone if len(read) == 1 else [read, *alone]


def quantize(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(rows, columns) -> int8 between -127 and 127, and the scale of each row, (rows, 1)."""
    greatest = np.abs(matrix).max(axis=1, keepdims=True)
    scale = np.where(greatest > 0, greatest / 127, 1).astype(np.float32)
    return np.rint(matrix / scale).astype(np.int8), scale


def _skip(graph: _Graph, schema: Schema) -> None:
    """`SkipModel.forward`."""
    centred = graph.op("Sub", [INPUT, graph.parameter("standardize.mean")], "centred")
    scaled = graph.op("Mul", [centred, graph.parameter("standardize.scale")], "scaled")
    bounds = [
        graph.constant(name, np.array(value, np.float32))
        for name, value in (("lowest", -LIMIT), ("highest", LIMIT))
    ]
    standard = graph.op("Clip", [scaled, *bounds], "standard")
    hidden = graph.hidden(graph.hidden(standard, "first"), "second")
    trunk = graph.linear(hidden, "heads", "heads.trunk")
    skip = graph.op("Gemm", [standard, graph.matrix("skip.weight")], "heads.skip", transB=1)
    sizes = np.array([place.stop - place.start for place in schema.heads.values()], np.int64)
    both = graph.op("Add", [trunk, skip], "heads.both")
    graph.split(both, graph.constant("sizes", sizes), HEADS)


def _seed(graph: _Graph) -> None:
    """`SeedModel.forward`."""
    x = INPUT
    for layer in range(len(SEED_WIDTHS)):
        x = graph.hidden(x, f"trunk.{layer}")
    for head in HEADS:
        graph.linear(graph.hidden(x, f"hidden.{head}"), f"heads.{head}", head)
