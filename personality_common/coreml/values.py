"""Values of an ML Program (`MIL_pb2.Value`) as arrays: inline in the protobuf, or in a weight file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.blob_types import BlobType, unpack, widen_bfloat16
from personality_common.coreml.package import Package
from personality_common.coreml.proto import MIL_pb2
from personality_common.errors import DataError

MAX_RANK: Final = 32
_BLOB_TYPES: Final = {blob_type.mil_name: blob_type for blob_type in BlobType}
# Field of TensorValue -> NumPy dtype of its elements, and kinds of MIL types it may hold.
_INLINE_FIELDS: Final = {
    "floats": (np.float32, "f"),
    "doubles": (np.float64, "f"),
    "ints": (np.int32, "iu"),
    "longInts": (np.int64, "iu"),
    "bools": (np.bool_, "b"),
    "strings": (np.object_, "O"),
}


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a tensor; scalars have the empty shape."""

    dtype: str
    """MIL's name in lower case: `float32`, `int4`, `bool`, `string`, …"""
    shape: tuple[int | None, ...]
    """None for a dimension that is known only at run time."""

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape, or None if any of its dimensions is not known."""
        known = tuple(d for d in self.shape if d is not None)
        return known if len(known) == len(self.shape) else None


@dataclass(frozen=True)
class BlobLocation:
    """Where a value's bytes are: the program's name of the file, and the offset of the metadata."""

    file: str
    offset: int


def tensor_type(value_type: Any) -> TensorType | None:
    """Type of a `MIL_pb2.ValueType`, looking into states; None for lists, tuples and dictionaries."""
    if value_type.WhichOneof("type") == "stateType":
        value_type = value_type.stateType.wrappedType
    if value_type.WhichOneof("type") != "tensorType":
        return None
    tensor = value_type.tensorType
    if len(tensor.dimensions) > MAX_RANK:
        raise DataError(f"a tensor's rank is {MAX_RANK} at most, got {len(tensor.dimensions)}")
    known = tensor.dataType in MIL_pb2.DataType.values()
    dtype = MIL_pb2.DataType.Name(tensor.dataType).lower() if known else f"type{tensor.dataType}"
    shape = tuple(
        d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions
    )
    return TensorType(dtype, shape)


def blob_location(value: Any) -> BlobLocation | None:
    """Where a `MIL_pb2.Value` is stored; None if it is inline."""
    if value.WhichOneof("value") != "blobFileValue":
        return None
    return BlobLocation(value.blobFileValue.fileName, value.blobFileValue.offset)


def blob_type(dtype: str) -> BlobType | None:
    """The weight-file type of this MIL name; None for those that are always inline (`string`, …)."""
    return _BLOB_TYPES.get(dtype)


def read_value(package: Package, value: Any, what: str = "value") -> NDArray[Any]:
    """A tensor value as an array of its static shape.

    Args:
        value: `MIL_pb2.Value` of tensor type.
        what: names the value in errors.

    Returns:
        The type's NumPy dtype; bfloat16 as float32, int4 as int8, other types smaller than a
        byte as uint8, strings as objects. Values in a weight file are read-only views of it
        where NumPy has the type.

    Raises:
        DataError: not a tensor of static shape, or the type does not agree with what is stored.
    """
    where = f"{package.path}: {what}"
    kind = tensor_type(value.type)
    if kind is None or (shape := kind.static_shape) is None:
        raise DataError(f"{where}: a tensor of static shape is expected, got {kind or 'another type'}")
    location = blob_location(value)
    if location is None:
        return _inline(value.immediateValue.tensor, kind.dtype, shape, where)
    stored = blob_type(kind.dtype)
    if stored is None:
        raise DataError(f"{where}: {kind.dtype} cannot be in a weight file")
    return package.weights(location.file).values(location.offset, shape, stored)


def _inline(tensor: Any, dtype: str, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    field = tensor.WhichOneof("value")
    array: NDArray[Any]
    if field == "bytes":
        array = _from_bytes(tensor.bytes.values, dtype, math.prod(shape), where)
    else:
        try:
            target = np.dtype(object if dtype == "string" else dtype)
        except TypeError:
            raise DataError(f"{where}: {dtype} inline must be stored as bytes, got {field}") from None
        # Without a field there are no elements.
        source, kinds = _INLINE_FIELDS[field] if field else (target.type, target.kind)
        if target.kind not in kinds:
            raise DataError(f"{where}: {dtype} values stored as {field}")
        values = getattr(tensor, field).values if field else ()
        # Not np.array, which would make a list of Python numbers first.
        array = np.fromiter(values, source, len(values)).astype(target, copy=False)
    if array.size != math.prod(shape):
        raise DataError(f"{where}: {array.size} elements inline, shape {shape} needs {math.prod(shape)}")
    return array.reshape(shape)


def _from_bytes(data: bytes, dtype: str, count: int, where: str) -> NDArray[Any]:
    stored = blob_type(dtype)
    wide = dtype in ("float64", "int64", "uint64")
    if stored in (None, BlobType.FLOAT8E4M3FN, BlobType.FLOAT8E5M2) and not wide:
        raise DataError(f"{where}: {dtype} stored as bytes is not supported")
    bits = stored.bits if stored else 64
    if -(-count * bits // 8) != len(data):
        raise DataError(f"{where}: {len(data)} bytes inline, {count} elements of {dtype} differ")
    if stored is None:
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    array: NDArray[Any] = np.frombuffer(data, stored.storage)
    if stored is BlobType.BFLOAT16:
        return widen_bfloat16(array)
    return unpack(array, stored, count) if bits < 8 else array
