"""Arrays in the files of a bundle: where each is, and how its values are stored."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError, ToolkitError
from personality_common.files.bounded import open_regular
from personality_common.files.inside import inside

Array = NDArray[Any]

DTYPES: Final = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
MAX_RANK: Final = 8


def stored_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """How many bytes an array takes.

    Raises:
        ValueError: no dtype of a bundle, or more dimensions than an array of one has.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, is {dtype[:40]!r}")
    if len(shape) > MAX_RANK:
        raise ValueError(f"shape must have at most {MAX_RANK} dimensions, has {len(shape)}")
    return math.prod(shape) * np.dtype(dtype).itemsize


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
        fingerprint: see `personality_common.files.fingerprint`.
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

    def __post_init__(self) -> None:
        if self.size != (expected := stored_bytes(self.dtype, self.shape)):
            raise ValueError(f"{self.name[:80]} must have {expected} bytes, has {self.size}")

    @property
    def span(self) -> tuple[int, int]:
        """Where its first byte is in the file, and where the one after its last.

        Raises:
            DataError: it is inline in the program.
        """
        if self.offset is None:
            raise DataError(f"{self.name} must lie in a file, it is inline in the program")
        return self.offset, self.offset + self.size

    def read(self, package: Path) -> Array:
        """The values that a package, or a copy of it, has there; `shape` in `dtype`, a copy.

        Raises:
            DataError: inline in the program; the file is missing, a link, or ends before.
        """
        return _read(inside(package, self.file), self.dtype, self.shape, self.span[0], self.name)


@dataclass(frozen=True)
class StoredArray:
    """A file that holds one array, in C order, little-endian, and nothing else."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        stored_bytes(self.dtype, self.shape)

    def read(self, folder: Path) -> Array:
        """The array; `file` is relative to the folder.

        Raises:
            DataError: the file is missing, a link, or not of this size.
        """
        return _read(inside(folder, self.file), self.dtype, self.shape)


def _read(path: Path, dtype: str, shape: tuple[int, ...], offset: int | None = None, name: str = "") -> Array:
    """Args: offset: None for a file that has nothing else."""
    size, start = stored_bytes(dtype, shape), offset or 0
    with os.fdopen(open_regular(path), "rb") as file:
        whole = os.fstat(file.fileno()).st_size
        if start + size > whole or (offset is None and size != whole):
            what = f"{name} lies at {start}" if name else f"{dtype} of shape {shape} must fill it"
            raise DataError(f"{path}: {what}, {size} bytes, the file has {whole}")
        file.seek(start)
        data = file.read(size)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype)


def stored_values(name: str, values: NDArray[np.float32], dtype: str | np.dtype[Any]) -> NDArray[Any]:
    """Values as a package has them: as they are, or rounded to the nearest float16, ties to even.

    Raises:
        ToolkitError: a value is not finite in that dtype.
    """
    little = np.dtype(dtype).newbyteorder("<")
    with np.errstate(over="ignore"):
        stored = values.astype(little)
    if not np.isfinite(stored).all():
        worst = np.abs(values).max()
        raise ToolkitError(
            f"{name}: must be finite in {little.name}, its greatest magnitude is {worst:g}; "
            "train again, or export with --precision float32"
        )
    return stored
