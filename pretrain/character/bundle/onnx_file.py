"""An ONNX file from outside: bounded, and of no other form than `pt character export` writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from personality_common.onnx.parsing import import_onnx, parse_onnx
from pretrain.character.bundle.manifest import INPUT
from pretrain.character.schema import FEATURES, Schema

MOST_BYTES: Final = 16 << 20
MOST_OBJECTS: Final = 10_000
MOST_NODES: Final = 100
MOST_WIDE: Final = 1024
"""Of a dimension: products of a row with a column stay small."""
OPS: Final = ("Add", "Cast", "Clip", "Gemm", "Mul", "Relu", "Split", "Sub")


@dataclass(frozen=True)
class OnnxFile:
    """A file that any runtime may be given.

    Attributes:
        data: its bytes.
        metadata: `metadata_props`.
        tensors: initializers by name, as stored.
    """

    data: bytes
    metadata: dict[str, str]
    tensors: dict[str, NDArray[Any]]


def read_onnx(path: Path, schema: Schema) -> OnnxFile:
    """Read a file without believing it.

    Raises:
        DataError: no such file, no ONNX, too large, weights in another file, an operator that the exporter
            does not write, or other inputs and outputs than the schema's.
        ToolkitError: the package `onnx` is not installed.
    """
    onnx = import_onnx()
    data, model = parse_onnx(path, MOST_BYTES, MOST_OBJECTS)
    _require_nodes(path, model)
    tensors = {tensor.name: _read(path, onnx, tensor) for tensor in model.graph.initializer}
    wanted = [(INPUT, FEATURES)], [(h, place.stop - place.start) for h, place in schema.heads.items()]
    found = [_ports(onnx, ports) for ports in (model.graph.input, model.graph.output)]
    if found != list(wanted):
        raise DataError(
            f"{path}: must take {wanted[0]} and give {wanted[1]}, float32 and (batch, size), for schema "
            f"{schema.name}; takes {found[0]!s:.80} and gives {found[1]!s:.120}"
        )
    return OnnxFile(data, {entry.key: entry.value for entry in model.metadata_props}, tensors)


def _require_nodes(path: Path, model: Any) -> None:
    graph = model.graph
    if model.functions or graph.sparse_initializer or len(graph.node) > MOST_NODES:
        raise DataError(f"{path}: must have {MOST_NODES} nodes at most, no functions and no sparse tensors")
    for node in graph.node:
        whole = all(attribute.type in (1, 2) for attribute in node.attribute)  # FLOAT, INT
        if node.op_type not in OPS or node.domain or not whole:
            raise DataError(
                f"{path}: must use {', '.join(OPS)} alone, with plain attributes, uses {node.op_type!r:.40}"
            )


def _read(path: Path, onnx: Any, tensor: Any) -> NDArray[Any]:
    name, shape = repr(tensor.name)[:60], tuple(tensor.dims)
    types = onnx.TensorProto
    dtypes = {types.FLOAT: "<f4", types.FLOAT16: "<f2", types.INT8: "i1", types.INT64: "<i8"}
    if tensor.data_location != types.DEFAULT or tensor.external_data:
        raise DataError(f"{path}: weights must be inside, those of {name} are in another file")
    if tensor.data_type not in dtypes or len(shape) > 2 or not all(0 < n <= MOST_WIDE for n in shape):
        raise DataError(f"{path}: {name} must be of two dimensions of {MOST_WIDE} at most, is {shape!s:.60}")
    dtype = np.dtype(dtypes[tensor.data_type])
    if len(tensor.raw_data) != math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"{path}: {name} of shape {shape} must have as many bytes, has {len(tensor.raw_data)}"
        )
    return np.frombuffer(tensor.raw_data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _ports(onnx: Any, values: Any) -> list[tuple[str, int]]:
    ports = []
    for value in values:
        kind = value.type.tensor_type
        dims = kind.shape.dim
        flexible = len(dims) == 2 and bool(dims[0].dim_param) and kind.elem_type == onnx.TensorProto.FLOAT
        ports.append((value.name, dims[1].dim_value if flexible else 0))
    return ports
