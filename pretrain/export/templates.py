"""A package is made with stand-ins for its parameters; here the true values are put in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.network import network, weights
from personality_common.coreml.package import Package
from personality_common.coreml.program import constants
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.weights import ALIGNMENT
from personality_common.coreml.writing import MODEL_FILE, WEIGHTS_FILE
from personality_common.errors import ToolkitError
from personality_common.fingerprint import fingerprint

DTYPES: Final = (np.dtype("<f4"), np.dtype("<f2"))
_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class StoredTensor:
    """Where a package has a parameter.

    Attributes:
        name: PyTorch's name of the parameter.
        constant: what the package calls it.
        file: relative to the package.
        offset: of its first byte in the file; values are in C order, little-endian. None if it is
            inline in the program, where nobody patches it.
        size: bytes.
        metadata_offset: in a weight file, what the program refers to; None in the protobuf.
        shape: of the tensor.
        dtype: as stored.
        updatable: whether a device may change it.
        fingerprint: see `personality_common.fingerprint`.
    """

    name: str
    constant: str
    file: str
    offset: int | None
    size: int
    metadata_offset: int | None
    shape: tuple[int, ...]
    dtype: str
    updatable: bool
    fingerprint: str


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
    constant_names = _constant_names(model, stand_ins)
    tensors = []
    for name, stand_in in stand_ins.items():
        places = list(_places(files, stand_in))
        assert len(places) < 2, f"{name} is stored {len(places)} times"
        for file, offset, dtype in places:
            stored = _converted(name, values[name], dtype)
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


def stored_values(name: str, values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Values as a package has them: as they are, or rounded to the nearest float16, ties to even.

    Raises:
        ToolkitError: a value is not finite in that dtype.
    """
    return _converted(name, values, np.dtype(dtype).newbyteorder("<"))


def _converted(name: str, values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if not np.isfinite(stored).all():
        worst = np.abs(values).max()
        raise ToolkitError(
            f"{name}: must be finite in {dtype.name}, its greatest magnitude is {worst:g}; "
            "train again, or export with --precision float32"
        )
    return stored


def _places(
    files: Mapping[str, bytearray], stand_in: NDArray[np.float32]
) -> Iterator[tuple[str, int, np.dtype[Any]]]:
    """Every place where the stand-in's bytes are: file, offset, dtype."""
    for file, content in files.items():
        for dtype in DTYPES:
            whole = stand_in.astype(dtype).tobytes()
            # A short needle is found much faster; the rest is compared.
            offset = content.find(whole[:_KEY_BYTES])
            while offset >= 0:
                if content[offset : offset + len(whole)] == whole:
                    yield file, offset, dtype
                offset = content.find(whole[:_KEY_BYTES], offset + 1)


def _constant_names(model: bytes, stand_ins: Mapping[str, NDArray[np.float32]]) -> dict[str | int, str]:
    """Names of constants by metadata offset; of a network's weights by the parameter's name."""
    spec = Model_pb2.Model()
    spec.ParseFromString(model)
    package = Package(Path("template"), spec, "", Path("template"), Path("template"))
    names: dict[str | int, str] = {c.location.offset: c.name for c in constants(package) if c.location}
    by_bytes = {stand_in.astype("<f4").tobytes(): name for name, stand_in in stand_ins.items()}
    for part in (package, *package.submodels):
        message = network(part)
        for weight in weights(message) if message is not None else ():
            names[by_bytes[weight.data()]] = f"{part.name}/{weight.name}" if part.name else weight.name
    return names
