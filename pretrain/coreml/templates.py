"""A package is made with stand-ins for its parameters; here the true values are put in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.bundle.stored import StoredTensor, stored_values
from personality_common.coreml.network import network, weights
from personality_common.coreml.package import Package
from personality_common.coreml.program import constants
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.weights import ALIGNMENT
from personality_common.coreml.writing import MODEL_FILE, WEIGHTS_FILE
from personality_common.files.fingerprint import fingerprint

DTYPES: Final = (np.dtype("<f4"), np.dtype("<f2"))
_KEY_BYTES: Final = 32


def fill(
    model: bytes,
    weight_file: bytes | None,
    stand_ins: Mapping[str, NDArray[np.float32]],
    values: Mapping[str, NDArray[np.float32]],
    updatable: frozenset[str],
) -> tuple[bytes, bytes | None, tuple[StoredTensor, ...]]:
    """Write values over stand-ins, wherever a package has them, in the dtype that it has them in.

    Args:
        model: serialized.
        weight_file: content of `weight.bin`, or None.
        stand_ins: by PyTorch's name; random, so that each is found once or not at all.
        values: float32, by the same names.
        updatable: names that a device may change.

    Returns:
        Model and weight file with the values, and where each parameter is. A parameter that the
        package does not use is left out.

    Raises:
        ToolkitError: a value is not finite in the dtype that is stored.
    """
    files = {MODEL_FILE: bytearray(model)}
    if weight_file is not None:
        files[WEIGHTS_FILE] = bytearray(weight_file)
    # Only values are written over meanwhile: where another stand-in begins stays true.
    beginnings = {file: _beginnings(content) for file, content in files.items() if file == WEIGHTS_FILE}
    constant_names = _constant_names(model, stand_ins)
    tensors = []
    for name, stand_in in stand_ins.items():
        places = list(_places(files, beginnings, stand_in))
        assert len(places) < 2, f"{name} is stored {len(places)} times"
        for file, offset, dtype in places:
            stored = stored_values(name, values[name], dtype)
            files[file][offset : offset + stored.nbytes] = stored.tobytes()
            metadata_offset = offset - ALIGNMENT if file == WEIGHTS_FILE else None
            tensors.append(
                StoredTensor(
                    name=name,
                    constant=constant_names[name if metadata_offset is None else metadata_offset],
                    file=file,
                    offset=offset,
                    size=stored.nbytes,
                    metadata_offset=metadata_offset,
                    shape=stored.shape,
                    dtype=dtype.name,
                    updatable=name in updatable,
                    fingerprint=fingerprint(stored),
                )
            )
    filled = files.get(WEIGHTS_FILE)
    return bytes(files[MODEL_FILE]), None if filled is None else bytes(filled), tuple(tensors)


def _beginnings(content: bytearray) -> NDArray[np.uint16]:
    """First two bytes at each multiple of 64, at which the data of weight files are."""
    return np.frombuffer(content, "<u2", len(content) // 2)[:: ALIGNMENT // 2].copy()


def _places(
    files: Mapping[str, bytearray],
    beginnings: Mapping[str, NDArray[np.uint16]],
    stand_in: NDArray[np.float32],
) -> Iterator[tuple[str, int, np.dtype[Any]]]:
    """Every place where the stand-in's bytes are: file, offset, dtype."""
    for dtype in DTYPES:
        whole = stand_in.astype(dtype).tobytes()
        for file, content in files.items():
            offsets: Iterable[int]
            if file in beginnings:
                first = np.frombuffer(whole, "<u2", 1)
                offsets = (np.flatnonzero(beginnings[file] == first) * ALIGNMENT).tolist()
            else:
                offsets = _found(content, whole[:_KEY_BYTES])
            for offset in offsets:
                if content.startswith(whole, offset):
                    yield file, offset, dtype


def _found(content: bytearray, key: bytes) -> Iterator[int]:
    """Where a key is; a short one is found much faster."""
    offset = content.find(key)
    while offset >= 0:
        yield offset
        offset = content.find(key, offset + 1)


def _constant_names(model: bytes, stand_ins: Mapping[str, NDArray[np.float32]]) -> dict[str | int, str]:
    """Names of constants by metadata offset; of what is in the protobuf by the parameter's name."""
    spec = Model_pb2.Model()
    spec.ParseFromString(model)
    package = Package(Path("template"), spec, "", Path("template"))
    by_bytes = {
        values.astype(dtype).tobytes(): name for name, values in stand_ins.items() for dtype in DTYPES
    }
    names: dict[str | int, str] = {}
    for constant in constants(package):
        if constant.location is not None:
            names[constant.location.offset] = constant.name
        elif constant.type.dtype in ("float32", "float16"):
            inline = by_bytes.get(constant.read().tobytes())
            if inline is not None:
                names[inline] = constant.name
    for part in (package, *package.submodels):
        message = network(part)
        for weight in weights(message) if message is not None else ():
            names[by_bytes[weight.data()]] = f"{part.name}/{weight.name}" if part.name else weight.name
    return names
