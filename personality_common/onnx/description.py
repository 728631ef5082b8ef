"""What can be said of an ONNX file without running it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personality_common.coreml.description import ParameterCount
from personality_common.coreml.features import MAX_RANK
from personality_common.coreml.limits import Limits, require_at_most
from personality_common.files.fingerprint import fingerprint_bytes
from personality_common.onnx.parsing import import_onnx, parse_onnx


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Attributes:
        type: `tensor`, or what else ONNX has: `sequence`, `map`, `optional`, `sparse_tensor`.
        dtype: of a tensor's elements, as NumPy calls it.
        shape: of a tensor: sizes, names of sizes that may differ, None where nothing is said.
    """

    name: str
    type: str
    dtype: str | None
    shape: tuple[int | str | None, ...]

    @property
    def shape_text(self) -> str:
        return "x".join("?" if size is None else str(size) for size in self.shape)


@dataclass(frozen=True)
class OnnxTensor:
    """An initializer.

    Attributes:
        bytes: that it has in the file.
        external: the file that it says its values are in, which is not opened.
        fingerprint: None unless asked for, or where the bytes do not fit dtype and shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    external: str | None
    fingerprint: str | None


@dataclass(frozen=True)
class OnnxDescription:
    """A file; see `describe_onnx`.

    Attributes:
        opsets: domain -> version; the domain of ONNX itself is `ai.onnx`.
        operations: type -> count, most frequent first; in bodies of loops and branches, too.
        problems: what does not fit together.
    """

    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operations: dict[str, int]
    parameters: tuple[ParameterCount, ...]
    tensors: tuple[OnnxTensor, ...]
    metadata: dict[str, str]
    problems: tuple[str, ...]


def describe_onnx(path: Path, limits: Limits, *, fingerprints: bool = False) -> OnnxDescription:
    """Describe a file.

    Args:
        limits: of its bytes, and of the objects in it.
        fingerprints: compute those of all tensors.

    Raises:
        DataError: no such file, larger than allowed, or no ONNX.
        ToolkitError: the package `onnx` is not installed.
    """
    _, model = parse_onnx(path, limits.model_bytes, limits.objects)
    graph = model.graph
    pairs = [(tensor, _tensor(tensor, fingerprints)) for tensor in graph.initializer]
    own = {tensor.name for tensor in graph.initializer}
    return OnnxDescription(
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        # Up to IR version 3, parameters are inputs as well.
        inputs=tuple(_port(value) for value in graph.input if value.name not in own),
        outputs=tuple(map(_port, graph.output)),
        operations=dict(Counter(node.op_type for node in _nodes(model)).most_common()),
        parameters=_counts(tensor for _, tensor in pairs),
        tensors=tuple(tensor for _, tensor in pairs),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        problems=tuple(
            f"{path}: {tensor.name[:80]!r} of {tensor.dtype} {tensor.shape!s:.60} has {tensor.bytes:,} bytes"
            for proto, tensor in pairs
            if proto.HasField("raw_data") and _size(tensor) not in (None, tensor.bytes)
        ),
    )


def _port(value: Any) -> Port:
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return Port(value.name, kind.removesuffix("_type"), None, ())
    dims = value.type.tensor_type.shape.dim
    require_at_most(len(dims), MAX_RANK, f"dimensions of {value.name[:80]!r}")
    sizes = (getattr(size, size.WhichOneof("value") or "", None) for size in dims)
    return Port(value.name, "tensor", _dtype(value.type.tensor_type.elem_type), tuple(sizes))


def _tensor(tensor: Any, fingerprints: bool) -> OnnxTensor:
    require_at_most(len(tensor.dims), MAX_RANK, f"dimensions of {tensor.name[:80]!r}")
    external = {entry.key: entry.value for entry in tensor.external_data}.get("location")
    raw = tensor.raw_data
    found = OnnxTensor(
        name=tensor.name,
        dtype=_dtype(tensor.data_type),
        shape=tuple(tensor.dims),
        bytes=len(raw) if tensor.HasField("raw_data") else tensor.ByteSize(),
        external=external,
        fingerprint=None,
    )
    if not fingerprints or not raw or _size(found) != len(raw):
        return found
    return OnnxTensor(**vars(found) | {"fingerprint": fingerprint_bytes(found.dtype, found.shape, raw)})


def _size(tensor: OnnxTensor) -> int | None:
    """Bytes that dtype and shape ask for; None where NumPy has no such dtype."""
    try:
        return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
    except TypeError:
        return None


def _dtype(number: int) -> str:
    try:
        return str(import_onnx().helper.tensor_dtype_to_np_dtype(number).name)
    except KeyError:
        return f"unknown ({number})"


def _nodes(model: Any) -> Iterator[Any]:
    graphs = [model.graph, *model.functions]
    while graphs:
        for node in graphs.pop().node:
            yield node
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs


def _counts(tensors: Iterable[OnnxTensor]) -> tuple[ParameterCount, ...]:
    by_dtype: dict[str, list[OnnxTensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    return tuple(
        ParameterCount(
            dtype, len(own), sum(math.prod(tensor.shape) for tensor in own), sum(t.bytes for t in own)
        )
        for dtype, own in by_dtype.items()
    )
