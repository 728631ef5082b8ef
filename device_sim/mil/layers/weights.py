"""Reads `WeightParams`: float32, float16, and integers with a scale or a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from device_sim.mil.limits import Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.types import Array, Ints, prod
from personality_common.coreml.network import NetworkWeight
from personality_common.errors import DataError


@dataclass(frozen=True, slots=True)
class Weights:
    """Reads weights in the type that the policy computes in."""

    policy: Policy
    usage: Usage

    def read(self, proto: Any, shape: Ints, name: str, axis: int = 0) -> Array:
        """Weights however they are stored.

        Args:
            axis: along which quantized weights have their scales.

        Raises:
            DataError: malformed, not as many as the shape has, or beyond the limits.
        """
        count = stored_count(proto, prod(shape), name)
        if count != prod(shape):
            raise DataError(f"{name} must have {prod(shape)} values for shape {list(shape)}, got {count}")
        self.usage.check_value(count, 8 if proto.HasField("quantization") else self._itemsize, name)
        value = self.policy.constant(_values(proto, shape, name, axis))
        value.flags.writeable = False
        self.usage.budget.held += value.nbytes
        return value

    def vector(self, proto: Any, name: str) -> Array:
        """Weights whose shape the layer does not tell: (n,)."""
        return self.read(proto, (stored_count(proto, None, name),), name)

    @property
    def _itemsize(self) -> int:
        return self.policy.compute.itemsize


def stored_count(proto: Any, expected: int | None, name: str) -> int:
    """How many values are stored.

    Args:
        expected: packed bits may be followed by padding, so this many count as all; None: whatever fits.

    Raises:
        DataError: in several ways at once, or not in whole numbers.
    """
    ways = [
        field
        for field in ("floatValue", "float16Value", "rawValue", "int8RawValue")
        if len(getattr(proto, field))
    ]
    if len(ways) > 1:
        raise DataError(f"{name} is stored as {' and '.join(ways)}; one of them is expected")
    if not ways:
        return 0
    size = len(getattr(proto, ways[0]))
    if ways[0] == "float16Value":
        if size % 2:
            raise DataError(f"{name}: {size} bytes are no whole number of float16")
        return size // 2
    if ways[0] == "rawValue":
        bits = _bits(proto, name)
        if expected is not None and -(-expected * bits // 8) == size:
            return expected
        return size * 8 // bits
    return size


def _bits(proto: Any, name: str) -> int:
    bits = int(proto.quantization.numberOfBits)
    if not proto.HasField("quantization") or not 1 <= bits <= 8:
        raise DataError(f"{name}: raw values need a quantization of 1 to 8 bits, got {bits}")
    return bits


def _values(proto: Any, shape: Ints, name: str, axis: int) -> Array:
    if proto.float16Value:
        return np.frombuffer(proto.float16Value, "<f2").reshape(shape)
    if not proto.rawValue and not proto.int8RawValue:
        stored = NetworkWeight(name, "float32", shape, 4 * len(proto.floatValue), False, proto)
        return np.frombuffer(stored.data(), "<f4").reshape(shape)
    if proto.int8RawValue:
        codes: Array = np.frombuffer(proto.int8RawValue, np.int8)
    else:
        codes = unpack_high_first(np.frombuffer(proto.rawValue, np.uint8), _bits(proto, name), prod(shape))
    codes = codes.reshape(shape)
    kind = proto.quantization.WhichOneof("QuantizationType")
    if kind == "linearQuantization":
        return _linear(proto.quantization.linearQuantization, codes, name, axis)
    if kind == "lookupTableQuantization" and proto.rawValue:
        table = np.array(proto.quantization.lookupTableQuantization.floatValue[:257], np.float32)
        if table.size != 1 << _bits(proto, name):
            raise DataError(f"{name}: a table of {1 << _bits(proto, name)} is expected, got {table.size}")
        return table[codes]
    raise DataError(f"{name}: quantization {kind} is not supported")


def unpack_high_first(packed: Array, bits: int, count: int) -> Array:
    """Integers of so many bits each, packed from the highest bit on, as neural networks hold them.

    Source: coremltools, quantization_utils.py. (`weight.bin` packs from the lowest bit on.)
    """
    if bits == 8:
        return packed[:count]
    places = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return places @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint8))


def _linear(p: Any, codes: Array, name: str, axis: int) -> Array:
    """`code * scale + bias`; one scale, or one for each channel."""
    scale, bias = np.array(p.scale, np.float32), np.array(p.bias, np.float32)
    bias = bias if bias.size else np.zeros(1, np.float32)
    channels = codes.shape[axis] if codes.ndim else 1
    if scale.size not in (1, channels) or bias.size not in (1, channels):
        raise DataError(
            f"{name}: 1 or {channels} scales and biases are expected, got {scale.size} and {bias.size}"
        )
    along = [-1 if i == axis else 1 for i in range(codes.ndim)]
    scale, bias = (v.reshape(along if v.size > 1 else ()) for v in (scale, bias))
    # `codes` of rank 0 do not occur; scalars keep float32.
    return np.asarray(codes.astype(np.float32) * scale + bias)
