"""Array types of MIL: its data types as NumPy dtypes, declared tensor types, parameter types of kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.proto import MIL_pb2
from personality_common.errors import DataError

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Sequence[Array]
Ints: TypeAlias = tuple[int, ...]
Bools: TypeAlias = tuple[bool, ...]
Number: TypeAlias = int | float
Texts: TypeAlias = tuple[str, ...]
Blocks: TypeAlias = tuple[Callable[..., tuple[Array, ...]], ...]
"""Nested blocks of an operation, as functions of their inputs."""

MAX_RANK: Final = 16
"""MIL itself stops at 5; constexpr lookup tables have two more."""

_NAMES: Final = {
    "BOOL": "bool",
    "FLOAT16": "float16",
    "FLOAT32": "float32",
    "FLOAT64": "float64",
    "BFLOAT16": "float32",
    "INT4": "int8",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT1": "uint8",
    "UINT2": "uint8",
    "UINT3": "uint8",
    "UINT4": "uint8",
    "UINT6": "uint8",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
}
DTYPES: Final[dict[int, np.dtype[Any]]] = {
    MIL_pb2.DataType.Value(name): np.dtype(numpy_name) for name, numpy_name in _NAMES.items()
}
"""Types smaller than a byte are held one element to a byte, bfloat16 as float32."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """What a program declares of a value."""

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    """None in place of a size that is known when the program runs; None alone: any rank."""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of this shape may stand where this type is declared."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            declared is None or declared == got for declared, got in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        dims = "any" if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.dtype.name}[{dims}]"


def tensor_type(proto: Any, where: str) -> TensorType:
    """Read a `ValueType` that must be a tensor, or a list of tensors: one array, its first axis the list's.

    Raises:
        DataError: another kind of type, an unknown data type, a rank above `MAX_RANK`.
    """
    kind = proto.WhichOneof("type")
    if kind == "listType" and proto.listType.type.WhichOneof("type") == "tensorType":
        element = tensor_type(proto.listType.type, where)
        # The length that is declared is the first one, also of a list that grows.
        return TensorType(element.dtype, None if element.shape is None else (None, *element.shape))
    if kind != "tensorType":
        raise DataError(f"{where}: a tensor is expected, its type is {kind or 'missing'}")
    tensor = proto.tensorType
    dtype = DTYPES.get(tensor.dataType)
    if dtype is None:
        raise DataError(f"{where}: data type {_data_type_name(tensor.dataType)} is not supported")
    dims = tensor.dimensions
    if any(d.unknown.variadic for d in dims) or tensor.rank < 0:
        return TensorType(dtype, None)
    if tensor.rank != len(dims) or tensor.rank > MAX_RANK:
        raise DataError(
            f"{where}: rank {tensor.rank} with {len(dims)} dimensions; "
            f"they must agree and be at most {MAX_RANK}"
        )
    shape = tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in dims)
    return TensorType(dtype, shape)


def _data_type_name(number: int) -> str:
    value = MIL_pb2.DataType.DESCRIPTOR.values_by_number.get(number)
    return value.name if value is not None else f"number {number}"


def extent(shape: Sequence[int]) -> int:
    """Elements of an array of this shape, in Python integers, if no size were 0.

    An array without elements can become one with many: a sum over an axis of size 0 has the
    other axes. So limits hold for this number.
    """
    return math.prod(shape) or math.prod(max(d, 1) for d in shape)


def prod(shape: Sequence[int]) -> int:
    """Number of elements, in Python integers that cannot overflow."""
    return math.prod(int(d) for d in shape)
