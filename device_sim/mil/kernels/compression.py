"""Compressed constants, and quantization of values.

Source: coremltools, mil/ops/defs/iOS16/constexpr_ops.py, iOS17/quantization_ops.py,
iOS18/compression.py.
"""

from __future__ import annotations

import numpy as np

from device_sim.mil.kernels._sizes import axis_in
from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, prod
from personality_common.coreml.blob_types import BlobType, unpack

_LUT_TYPES = {
    2: BlobType.UINT1,
    4: BlobType.UINT2,
    16: BlobType.UINT4,
    64: BlobType.UINT6,
    256: BlobType.UINT8,
}


def _float(data: Array, like: Array) -> Array:
    """Integers in the float type of another array; float32 holds all of 16 bits."""
    return data.astype(like.dtype)


def _along(vector: Array, data: Array, axis: int | None, name: str) -> Array:
    """A scalar as it is; a vector shaped to go along `axis` of `data`."""
    if vector.ndim == 0:
        return vector
    if axis is None or vector.shape != (data.shape[axis_in(axis, data.ndim)],):
        raise ValueError(
            f"{name}{list(vector.shape)} must be a scalar or go along axis {axis} of data{list(data.shape)}"
        )
    return vector.reshape([-1 if i == axis_in(axis, data.ndim) else 1 for i in range(data.ndim)])


@op("constexpr_affine_dequantize", "iOS16")
def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: int) -> Array:
    return dequantize(quantized_data, scale, zero_point, axis)


@op("dequantize", "iOS17")
def dequantize(input: Array, scale: Array, zero_point: Array | None = None, axis: int | None = None) -> Array:
    """`scale * (input - zero_point)`."""
    result = _float(input, scale)
    if zero_point is not None:
        result -= _float(_along(zero_point, input, axis, "zero_point"), scale)
    result *= _along(scale, input, axis, "scale")
    return result


@op("quantize", "iOS17")
def quantize(
    input: Array,
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    """`clip(round(input / scale) + zero_point)`, halves to even."""
    if output_dtype not in ("int8", "uint8"):
        raise ValueError(f"output_dtype must be int8 or uint8, got {output_dtype!r}")
    levels = np.round(input / _along(scale, input, axis, "scale"))
    if zero_point is not None:
        levels += _float(_along(zero_point, input, axis, "zero_point"), levels)
    bounds = np.iinfo(output_dtype)
    return np.clip(levels, bounds.min, bounds.max).astype(output_dtype)


@op("constexpr_cast", "iOS16")
def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    if output_dtype != "fp32":
        raise ValueError(f"output_dtype must be fp32, got {output_dtype!r}")
    return source_val


def _lut_size(indices: Array, lut: Array, shape: Ints) -> int:
    bits = _LUT_TYPES[lut.size].bits if lut.ndim == 1 and lut.size in _LUT_TYPES else 0
    if not bits or indices.dtype != np.uint8 or indices.shape != (-(-prod(shape) * bits // 8),):
        raise ValueError(
            f"indices{list(indices.shape)} are not those of {list(shape)} packed for a table of {lut.size}"
        )
    return prod(shape)


@op("constexpr_lut_to_dense", "iOS16", size=_lut_size)
def constexpr_lut_to_dense(indices: Array, lut: Array, shape: Ints) -> Array:
    """Indices of log2(len(lut)) bits each, packed from the lowest bit on."""
    dtype = _LUT_TYPES[lut.size]
    plain = indices if dtype is BlobType.UINT8 else unpack(indices, dtype, prod(shape))
    return lut[plain].reshape(shape)


def _lut_size_18(indices: Array, lut: Array, vector_axis: int | None = None) -> int:
    if lut.ndim != indices.ndim + 2 or indices.ndim < 1:
        raise ValueError(f"lut{list(lut.shape)} must have two more axes than indices{list(indices.shape)}")
    if any(g == 0 or size % g for size, g in zip(indices.shape, lut.shape, strict=False)):
        raise ValueError(f"the tables of lut{list(lut.shape)} must divide indices{list(indices.shape)}")
    if lut.shape[-1] != 1 and vector_axis is None:
        raise ValueError(f"vectors of {lut.shape[-1]} need a vector_axis")
    return prod((indices.size, lut.shape[-1]))


@op("constexpr_lut_to_dense", "iOS18", size=_lut_size_18)
def constexpr_lut_to_dense_18(indices: Array, lut: Array, vector_axis: int | None = None) -> Array:
    """One table per block of indices: lut (tables per axis…, entries, vector)."""
    tables: tuple[Array, ...] = np.indices(indices.shape, sparse=True)
    groups = [
        table // (size // count) for table, size, count in zip(tables, indices.shape, lut.shape, strict=False)
    ]
    vectors: Array = lut[(*groups, indices)]  # (…, vector)
    if vector_axis is None:
        return vectors[..., 0]
    axis = axis_in(vector_axis, indices.ndim)
    sizes = list(indices.shape)
    sizes[axis] *= lut.shape[-1]
    return np.moveaxis(vectors, -1, axis + 1).reshape(sizes)


def _sparse_size(nonzero_data: Array, mask: Array, shape: Ints) -> int:
    if mask.dtype != np.uint8 or mask.shape != (-(-prod(shape) // 8),):
        raise ValueError(f"mask{list(mask.shape)} does not have one bit per element of {list(shape)}")
    return prod(shape)


@op("constexpr_sparse_to_dense", "iOS16", size=_sparse_size)
def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Ints) -> Array:
    """A mask of one bit per element, packed from the lowest bit on."""
    return _dense(nonzero_data, unpack(mask, BlobType.UINT1, prod(shape)).reshape(shape))


@op("constexpr_sparse_to_dense", "iOS18", size=lambda nonzero_data, mask: mask.size)
def constexpr_sparse_to_dense_18(nonzero_data: Array, mask: Array) -> Array:
    return _dense(nonzero_data, mask)


def _dense(nonzero_data: Array, mask: Array) -> Array:
    set_ = mask != 0
    if nonzero_data.shape != (np.count_nonzero(set_),):
        raise ValueError(
            f"nonzero_data{list(nonzero_data.shape)} must have one element per bit of the mask, "
            f"{np.count_nonzero(set_)}"
        )
    result = np.zeros(mask.shape, nonzero_data.dtype)
    result[set_] = nonzero_data
    return result


@op("constexpr_blockwise_shift_scale", "iOS18")
def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """`scale * (data - offset)`; each scale is for a block of data."""
    if scale.ndim != data.ndim or any(s == 0 or d % s for d, s in zip(data.shape, scale.shape, strict=True)):
        raise ValueError(f"scale{list(scale.shape)} must divide data{list(data.shape)}")
    if offset is not None and offset.shape != scale.shape:
        raise ValueError(f"offset{list(offset.shape)} must have the shape of scale{list(scale.shape)}")
    blocks = [n for d, s in zip(data.shape, scale.shape, strict=True) for n in (s, d // s)]
    per_block = [n for s in scale.shape for n in (s, 1)]
    result = _float(data, scale).reshape(blocks)
    if offset is not None:
        result = result - _float(offset, scale).reshape(per_block)
    return (result * scale.reshape(per_block)).reshape(data.shape)


def _sparse_lut_size(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> int:
    return _lut_size_18(indices_mask, lut, vector_axis)


@op("constexpr_lut_to_sparse", "iOS18", size=_sparse_lut_size)
def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> tuple[Array, Array]:
    """Look up the elements that the mask keeps: the mask of the result, and its elements."""
    dense = constexpr_lut_to_dense_18(_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=axis_in(vector_axis, mask.ndim))
    return mask, dense[mask != 0]


@op("constexpr_sparse_blockwise_shift_scale", "iOS18", size=lambda data_mask, **_: data_mask.size)
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """Dequantize the elements that the mask keeps: the mask, and the elements."""
    dense = constexpr_blockwise_shift_scale(_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]
