"""Element types of weight files, and elements of those that NumPy lacks."""

from __future__ import annotations

import enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


class BlobType(enum.IntEnum):
    """Element types; the lower-case names are those of MIL's data types."""

    FLOAT16 = 1
    FLOAT32 = 2
    UINT8 = 3
    INT8 = 4
    BFLOAT16 = 5
    INT16 = 6
    UINT16 = 7
    INT4 = 8
    UINT1 = 9
    UINT2 = 10
    UINT4 = 11
    UINT3 = 12
    UINT6 = 13
    INT32 = 14
    UINT32 = 15
    FLOAT8E4M3FN = 16
    FLOAT8E5M2 = 17

    @property
    def mil_name(self) -> str:
        """`float32`, `int4`, …"""
        return self.name.lower()

    @property
    def bits(self) -> int:
        """Bits per element."""
        return _SUB_BYTE_BITS.get(self) or self.storage.itemsize * 8

    @property
    def is_mapped(self) -> bool:
        """Whether values can be views of the file: NumPy has the type."""
        return self not in _STORAGE

    @property
    def storage(self) -> np.dtype[Any]:
        """NumPy dtype of the stored bytes: the type itself where NumPy has it, else unsigned integers."""
        if self in _STORAGE:
            return _STORAGE[self]
        dtype: np.dtype[Any] = np.dtype(self.mil_name)
        return dtype.newbyteorder("<")


_SUB_BYTE_BITS: Final[dict[BlobType, int]] = {
    BlobType.INT4: 4,
    BlobType.UINT1: 1,
    BlobType.UINT2: 2,
    BlobType.UINT4: 4,
    BlobType.UINT3: 3,
    BlobType.UINT6: 6,
}
_STORAGE: Final[dict[BlobType, np.dtype[Any]]] = {
    **dict.fromkeys(_SUB_BYTE_BITS, np.dtype(np.uint8)),
    BlobType.BFLOAT16: np.dtype("<u2"),
    BlobType.FLOAT8E4M3FN: np.dtype(np.uint8),
    BlobType.FLOAT8E5M2: np.dtype(np.uint8),
}


def widen_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 values of bfloat16 bit patterns; exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def unpack(packed: NDArray[np.uint8], dtype: BlobType, count: int) -> NDArray[Any]:
    """Elements of a type smaller than a byte; the first is in the lowest bits of the first byte.

    Args:
        packed: (bytes,) uint8.
        count: number of elements.

    Returns:
        (count,) int8 for int4, else uint8.
    """
    if len(packed) * 8 < count * dtype.bits:
        raise ValueError(f"{count} elements of {dtype.bits} bits do not fit into {len(packed)} bytes")
    bits = np.unpackbits(packed, count=count * dtype.bits, bitorder="little")
    values = np.zeros(count, np.uint8)
    for position in range(dtype.bits):
        values |= bits[position :: dtype.bits] << np.uint8(position)
    # Shifted up, then down as a signed number: the sign bit fills the upper half.
    return (values << np.uint8(4)).view(np.int8) >> np.int8(4) if dtype is BlobType.INT4 else values
