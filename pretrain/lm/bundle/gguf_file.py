"""A GGUF file from outside, read within bounds: the directory at once, tensors when they are asked for.

Written by hand, on purpose: the package `gguf` writes our files, so that something else must read them, and
its reader believes what a file says of its lengths.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from personality_common.files.bounded import open_regular
from pretrain.lm.bundle.gguf_types import BY_NUMBER, GgufType

VERSION: Final = 3
ALIGNMENT: Final = 32
MAX_HEADER_BYTES: Final = 64 << 20
MAX_ENTRIES: Final = 1 << 20
"""Of metadata, of tensors, and of one list: the merges of a large vocabulary are the longest."""
MAX_STRING: Final = 1 << 20
_SCALARS: Final = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?"))) | {10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies; its shape is PyTorch's, rows last."""

    type: GgufType
    shape: tuple[int, ...]
    offset: int

    @property
    def bytes(self) -> int:
        return self.type.size(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """A file whose directory was read: every tensor lies inside, and no two of them overlap."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes, as they are stored."""
        tensor = self.tensors[name]
        with os.fdopen(open_regular(self.path), "rb") as file:
            data = os.pread(file.fileno(), tensor.bytes, tensor.offset)
        if len(data) != tensor.bytes:
            raise DataError(f"{self.path}: {name} must have {tensor.bytes} bytes, {len(data)} are there")
        return np.frombuffer(data, np.uint8)

    def values(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32; ToolkitError where the package `gguf` is not installed."""
        tensor = self.tensors[name]
        return tensor.type.dequantize(self.raw(name), tensor.shape)


def read_gguf(path: Path) -> GgufFile:
    """Read a file's directory.

    Raises:
        DataError: no GGUF of version 3, a type that we do not read, or anything out of bounds.
    """
    header, size, metadata, tensor_count = _open(path)
    entries = dict(header.tensor() for _ in range(tensor_count))
    if len(entries) != tensor_count or metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
        raise DataError(f"{path}: must name each tensor once, aligned to {ALIGNMENT} bytes")
    start = -(-header.position // ALIGNMENT) * ALIGNMENT
    tensors = {name: GgufTensor(t.type, t.shape, t.offset + start) for name, t in entries.items()}
    end = start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset < end or tensor.offset % ALIGNMENT or tensor.offset + tensor.bytes > size:
            raise DataError(f"{path}: {name!r:.100} must lie inside the file, apart from the others")
        end = tensor.offset + tensor.bytes
    return GgufFile(path, metadata, tensors)


def read_metadata(path: Path) -> dict[str, Any]:
    """What a GGUF file of anybody's says of itself; its tensors may be of any type, and are not looked at.

    Raises:
        DataError: no GGUF of version 3, or anything out of bounds.
    """
    return _open(path)[2]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of anybody's file, of whatever type they are.

    Raises:
        DataError: as `read_metadata`.
    """
    header, _, _, tensor_count = _open(path)
    entries = [header.entry() for _ in range(tensor_count)]
    return {name: shape for name, shape, _, _ in entries}


def _open(path: Path) -> tuple[_Header, int, dict[str, Any], int]:
    """The header after its metadata, the file's size, the metadata, and the number of tensors."""
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = _Header(io.BytesIO(file.read(min(size, MAX_HEADER_BYTES))), path)
    if header.take(4) != b"GGUF" or header.number("I") != VERSION:
        raise DataError(f"{path}: must be a GGUF file of version {VERSION}, little-endian")
    tensor_count, entry_count = header.count(), header.count()
    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        key = header.string()
        if key in metadata:
            raise DataError(f"{path}: {key!r:.100} must be there once, is there twice")
        metadata[key] = header.value(header.number("I"))
    return header, size, metadata, tensor_count


class _Header:
    """The start of a file; whoever reads past it is told so."""

    def __init__(self, data: io.BytesIO, path: Path) -> None:
        self.data, self.path = data, path

    @property
    def position(self) -> int:
        return self.data.tell()

    def take(self, size: int) -> bytes:
        found = self.data.read(size)
        if len(found) != size:
            raise DataError(
                f"{self.path}: ends within its header, or has one of more than {MAX_HEADER_BYTES} bytes"
            )
        return found

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def count(self, most: int = MAX_ENTRIES) -> int:
        return self.bounded(int(self.number("Q")), most)

    def bounded(self, count: int, most: int) -> int:
        if count > most:
            raise DataError(f"{self.path}: a count in it must be {most} or less, is {count}")
        return count

    def string(self) -> str:
        try:
            # A vocabulary and its merges are 100,000 of them, for which the first word of a chat waits.
            (size,) = _LENGTH.unpack(self.take(_LENGTH.size))
            return self.take(self.bounded(size, MAX_STRING)).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: a string in it must be UTF-8: {error.reason}") from None

    def value(self, kind: int, nested: bool = False) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _LIST and not nested:
            kind, count = self.number("I"), self.count()
            if kind in _SCALARS:
                code = f"<{_SCALARS[kind]}"
                return [one for (one,) in struct.iter_unpack(code, self.take(count * struct.calcsize(code)))]
            return [self.value(kind, nested=True) for _ in range(count)]
        if kind not in _SCALARS:
            raise DataError(
                f"{self.path}: a value in it must be a number, a string or a list, is of type {kind}"
            )
        return self.number(_SCALARS[kind])

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, number of its type, and offset of a tensor."""
        name, dimensions = self.string(), self.number("I")
        if not 1 <= dimensions <= 4:
            raise DataError(f"{self.path}: {name!r:.100} must have 1 to 4 dimensions, has {dimensions}")
        shape = tuple(reversed([self.count(1 << 40) for _ in range(dimensions)]))
        return name, shape, self.number("I"), self.number("Q")

    def tensor(self) -> tuple[str, GgufTensor]:
        name, shape, number, offset = self.entry()
        kind = BY_NUMBER.get(number)
        if kind is None or not all(shape) or shape[-1] % kind.block:
            raise DataError(f"{self.path}: {name!r:.100} must be of a type that we read, in whole blocks")
        return name, GgufTensor(kind, shape, offset)
