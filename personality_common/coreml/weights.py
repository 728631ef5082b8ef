"""Weight files of ML Programs (`weights/weight.bin`, MILBlob version 2): read, check, patch.

Layout, little-endian: a header of 64 bytes (u32 count, u32 version), then per entry 64 bytes
of metadata at a multiple of 64 and the data; the next entry starts at the next multiple of
64 after the data. A program refers to an entry by the offset of its *metadata*.

Source: `StorageFormat.hpp`, `StorageWriter.cpp` in Apple's coremltools, mlmodel/src/MILBlob.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.blob_types import BlobType, unpack, widen_bfloat16
from personality_common.coreml.limits import DEFAULT_LIMITS, Limits
from personality_common.errors import DataError
from personality_common.files.atomic import open_own
from personality_common.files.bounded import open_regular

ALIGNMENT: Final = 64
VERSION: Final = 2
SENTINEL: Final = 0xDEADBEEF
_HEADER: Final = struct.Struct("<II")
_METADATA: Final = struct.Struct("<IIQQQ")


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """One tensor's bytes; its shape is known to the program alone."""

    metadata_offset: int
    dtype: BlobType
    data_offset: int
    size: int
    """Bytes."""
    padding_bits: int
    """Unused high bits of the last byte; 0 but for types smaller than a byte."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return (self.size * 8 - self.padding_bits) // self.dtype.bits


class WeightFile:
    """A weight file, mapped read-only; every entry has been checked.

    Arrays are views of the map: they cost nothing until they are read, and keep the file
    mapped. A file that someone truncates meanwhile ends the process, as any mapped file does.
    """

    def __init__(self, path: Path, data: mmap.mmap, entries: tuple[BlobEntry, ...]) -> None:
        self.path = path
        self.entries = entries
        self._data = data
        self._by_offset = {entry.metadata_offset: entry for entry in entries}

    @classmethod
    def open(cls, path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> WeightFile:
        """Map a weight file and check all of its structure.

        Raises:
            DataError: bad sentinel, unknown version or dtype, an offset or size outside the
                file, misalignment, overlap, a truncated file, a count that does not match.
        """
        path = Path(path)
        descriptor = open_regular(path)
        try:
            if (size := os.fstat(descriptor).st_size) < ALIGNMENT:
                raise DataError(
                    f"{path}: a weight file begins with a header of 64 bytes, this has {size}: truncated?"
                )
            try:
                data = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
            except (OSError, OverflowError) as error:
                raise DataError(f"{path}: {size:,} bytes cannot be mapped: {error}") from error
        finally:
            os.close(descriptor)
        return cls(path, data, _entries(path, data, limits))

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self._data)

    def entry(self, metadata_offset: int) -> BlobEntry:
        """The entry whose metadata is at this offset (`BlobFileValue.offset`)."""
        try:
            return self._by_offset[metadata_offset]
        except KeyError:
            raise DataError(
                f"{self.path}: no entry has its metadata at offset {metadata_offset}; "
                f"the file has {len(self.entries)} entries"
            ) from None

    def raw(self, metadata_offset: int) -> memoryview:
        """The stored bytes of an entry, not copied."""
        entry = self.entry(metadata_offset)
        return memoryview(self._data)[entry.data_offset : entry.data_offset + entry.size]

    def array(
        self, metadata_offset: int, shape: Sequence[int], dtype: BlobType | None = None
    ) -> NDArray[Any]:
        """Read-only view of an entry as it is stored, not copied.

        Args:
            shape: of the tensor; its number of elements must be the entry's.
            dtype: the entry's type must be this one; None takes any.

        Returns:
            An array of `shape` and `BlobType.storage`; bfloat16 and float8 as unsigned
            integers (see `widen_bfloat16`). Types smaller than a byte: (size,) uint8, packed
            (see `unpack`).
        """
        entry = self.entry(metadata_offset)
        if dtype is not None and entry.dtype != dtype:
            raise DataError(
                f"{self.path}: entry at offset {metadata_offset} is {entry.dtype.mil_name}, "
                f"asked for as {dtype.mil_name}"
            )
        if len(shape) > 32 or min(shape, default=0) < 0 or math.prod(shape) != entry.count:
            raise DataError(
                f"{self.path}: entry at offset {metadata_offset} has {entry.count} elements of "
                f"{entry.dtype.mil_name}, asked for with shape {_brief(shape)}"
            )
        array = np.frombuffer(self.raw(metadata_offset), entry.dtype.storage)
        return array if entry.dtype.bits < 8 else array.reshape(tuple(shape))

    def values(
        self, metadata_offset: int, shape: Sequence[int], dtype: BlobType | None = None
    ) -> NDArray[Any]:
        """The tensor in a type that can be computed with.

        Like `array`, but bfloat16 is widened to float32, and types smaller than a byte are
        unpacked to (shape) int8 or uint8; these are copies.
        """
        stored = self.array(metadata_offset, shape, dtype)
        entry = self.entry(metadata_offset)
        if entry.dtype is BlobType.BFLOAT16:
            return widen_bfloat16(stored)
        if entry.dtype.bits < 8:
            return unpack(stored, entry.dtype, entry.count).reshape(tuple(shape))
        if entry.dtype in (BlobType.FLOAT8E4M3FN, BlobType.FLOAT8E5M2):
            raise DataError(
                f"{self.path}: entry at offset {metadata_offset} is {entry.dtype.mil_name}, not supported"
            )
        return stored


def patch(
    path: str | os.PathLike[str],
    metadata_offset: int,
    array: NDArray[Any],
    dtype: BlobType | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Overwrite one entry's data in place, and flush it to the disk.

    For a file that is the caller's own: a package that came in is copied first (`patched_copy`).

    Args:
        array: of the entry's `BlobType.storage` dtype and exactly its size in bytes.
        dtype: the entry's type must be this one; None takes any.

    Raises:
        DataError: the file is malformed, or the entry's dtype or size differs.
    """
    file = WeightFile.open(path, limits)
    entry = file.entry(metadata_offset)
    little = np.asarray(array).astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if little.dtype != entry.dtype.storage or dtype not in (None, entry.dtype):
        asked = array.dtype.name if dtype is None else dtype.mil_name
        raise DataError(
            f"{file.path}: entry at offset {metadata_offset} is {entry.dtype.mil_name}, "
            f"the patch is {asked} in an array of {array.dtype.name}"
        )
    if little.nbytes != entry.size:
        raise DataError(
            f"{file.path}: entry at offset {metadata_offset} has {entry.size} bytes, the patch has "
            f"{little.nbytes} (shape {_brief(array.shape)})"
        )
    with os.fdopen(open_own(Path(path)), "r+b") as target:
        target.seek(entry.data_offset)
        target.write(little.tobytes())
        target.flush()
        os.fsync(target.fileno())


def align(offset: int) -> int:
    """The next multiple of 64."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _entries(path: Path, data: mmap.mmap, limits: Limits) -> tuple[BlobEntry, ...]:
    count, version = _HEADER.unpack_from(data)
    if version != VERSION:
        raise DataError(f"{path}: weight file version {VERSION} is expected at offset 4, got {version}")
    # An entry takes 64 bytes at least: a count that the file cannot hold costs no loop.
    if count > limits.weight_entries or count > len(data) // ALIGNMENT - 1:
        raise DataError(
            f"{path}: the header claims {count} entries; {len(data)} bytes cannot hold them, "
            f"or the limit of {limits.weight_entries} is passed"
        )
    entries = []
    end = ALIGNMENT
    for _ in range(count):
        entries.append(_entry(path, data, align(end)))
        end = entries[-1].data_offset + entries[-1].size
    if len(data) > align(end):
        raise DataError(
            f"{path}: the header claims {count} entries, which end at {end}, "
            f"but the file has {len(data)} bytes"
        )
    return tuple(entries)


def _entry(path: Path, data: mmap.mmap, offset: int) -> BlobEntry:
    where = f"{path}: entry at offset {offset}"
    if offset + ALIGNMENT > len(data):
        raise DataError(f"{where}: its metadata lies beyond the end at {len(data)}: truncated?")
    sentinel, code, size, data_offset, padding = _METADATA.unpack_from(data, offset)
    if sentinel != SENTINEL:
        raise DataError(f"{where}: sentinel {SENTINEL:#x} is expected, got {sentinel:#x}")
    try:
        dtype = BlobType(code)
    except ValueError:
        raise DataError(f"{where}: unknown dtype {code}") from None
    if data_offset % ALIGNMENT:
        raise DataError(f"{where}: data offset {data_offset} is not a multiple of {ALIGNMENT}")
    if data_offset < offset + ALIGNMENT:
        raise DataError(f"{where}: data offset {data_offset} overlaps what comes before it")
    if data_offset + size > len(data):
        raise DataError(
            f"{where}: data of {size} bytes at {data_offset} ends beyond the end at {len(data)}: truncated?"
        )
    # The field is reserved in older files, which have no types smaller than a byte.
    padding = padding if dtype.bits < 8 else 0
    if padding > min(7, size * 8) or (size * 8 - padding) % dtype.bits:
        raise DataError(
            f"{where}: {size} bytes with {padding} bits of padding are no whole number of {dtype.mil_name}"
        )
    return BlobEntry(offset, dtype, data_offset, size, padding)


def _brief(shape: Sequence[int]) -> str:
    return str(tuple(shape)) if len(shape) <= 8 else f"of rank {len(shape)}"
