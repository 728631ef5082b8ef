"""Constants of a program, decoded: immediate values and entries of weight files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from device_sim.mil.limits import Budget
from device_sim.mil.types import Array, TensorType, prod, tensor_type
from personality_common.coreml.proto import MIL_pb2
from personality_common.coreml.weights import BlobType, WeightFile, unpack
from personality_common.errors import DataError

WeightFiles = Callable[[str], WeightFile]
"""From the name in the program to the open file."""

_STRING: Final = MIL_pb2.DataType.Value("STRING")
_FIELDS: Final = {"floats": "f", "doubles": "f", "ints": "iu", "longInts": "iu", "bools": "b"}


def decode(proto: Any, weights: WeightFiles, budget: Budget, where: str) -> Array | str:
    """The array, or the text, that a `Value` holds; arrays from weight files are views where they can be.

    Raises:
        DataError: not a tensor or a text, a type that is not supported, a size that does not
            match the type, or an entry that the weight file does not have.
    """
    if proto.type.WhichOneof("type") == "tensorType" and proto.type.tensorType.dataType == _STRING:
        return _text(proto, where)
    declared = tensor_type(proto.type, where)
    if declared.shape is None or None in declared.shape:
        raise DataError(f"{where}: a constant must have a fixed shape, its type is {declared}")
    shape = tuple(size for size in declared.shape if size is not None)
    budget.check_value(prod(shape), declared.dtype.itemsize, where)
    name = MIL_pb2.DataType.Name(proto.type.tensorType.dataType)
    kind = proto.WhichOneof("value")
    if kind == "blobFileValue":
        blob = proto.blobFileValue
        if name not in BlobType.__members__:
            raise DataError(f"{where}: a weight file cannot hold {name.lower()}")
        return weights(blob.fileName).values(blob.offset, shape, BlobType[name])
    if kind != "immediateValue" or proto.immediateValue.WhichOneof("value") != "tensor":
        raise DataError(f"{where}: a tensor is expected, its value is {kind or 'missing'}")
    return _immediate(proto.immediateValue.tensor, name, declared, shape, where)


def _text(proto: Any, where: str) -> str:
    values = proto.immediateValue.tensor.strings.values
    if len(values) != 1:
        raise DataError(f"{where}: one string is expected, got {len(values)}")
    return str(values[0])


def _immediate(
    tensor: Any, name: str, declared: TensorType, shape: tuple[int, ...], where: str
) -> Array:
    field = tensor.WhichOneof("value")
    count = prod(shape)
    if field == "bytes":
        flat = _from_bytes(tensor.bytes.values, name, declared, count, where)
    elif field in _FIELDS and declared.dtype.kind in _FIELDS[field]:
        # Conversion by NumPy refuses an integer that the type cannot hold, with OverflowError.
        values = getattr(tensor, field).values
        try:
            flat = np.fromiter(values, declared.dtype, len(values))
        except OverflowError as error:
            raise DataError(f"{where}: {error}") from error
    elif field is None and count == 0:
        flat = np.empty(0, declared.dtype)
    else:
        raise DataError(f"{where}: {declared} cannot be held in {field or 'nothing'}")
    if flat.size != count:
        raise DataError(f"{where}: {declared} has {count} elements, the value has {flat.size}")
    return flat.reshape(shape)


def _from_bytes(data: bytes, name: str, declared: TensorType, count: int, where: str) -> Array:
    blob = BlobType.__members__.get(name)
    if blob is not None and blob.bits < 8:
        if len(data) != -(-count * blob.bits // 8):
            raise DataError(f"{where}: {count} elements of {blob.mil_name} do not take {len(data)} bytes")
        return unpack(np.frombuffer(data, np.uint8), blob, count)
    if name == "BFLOAT16" or len(data) % declared.dtype.itemsize:
        raise DataError(f"{where}: {declared} cannot be held in {len(data)} bytes")
    return np.frombuffer(data, declared.dtype.newbyteorder("<"))
