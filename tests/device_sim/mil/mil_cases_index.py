"""Conformance of gathering, scattering, sorting, and of compressed constants."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from mil_harness import Case, SubByte, axis, floats, ints, numbers, optional, shape


def _gather(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = numbers(draw, shape(draw, 1, 4))
        dim = axis(draw, x.ndim)
        front = dim % x.ndim
        batch = draw(st.integers(0, front)) if opset != "iOS15" else 0
        dim = front if batch else dim  # coremltools' evaluation forgets the batch of a negative axis
        extra = shape(draw, 0, 2)
        low = -x.shape[front] if opset != "iOS17" else 0
        indices = ints(draw, x.shape[:batch] + extra, low, x.shape[front] - 1)
        arguments: dict[str, Any] = {"x": x, "indices": indices, "axis": dim}
        if opset != "iOS15":
            arguments["batch_dims"] = batch if batch else optional(draw, 0)
        if opset == "iOS17":
            arguments["validate_indices"] = optional(draw, draw(st.booleans()))
        return arguments

    return draw


def _torch_gather(
    x: Any, indices: Any, axis: int, batch_dims: int = 0, validate_indices: bool = False
) -> Any:
    axis %= x.ndim
    if batch_dims:
        parts = [_torch_gather(a, i, axis - 1, batch_dims - 1) for a, i in zip(x, indices, strict=False)]
        return torch.stack(parts)
    flat = torch.where(indices < 0, indices + x.shape[axis], indices).flatten()
    return x.index_select(axis, flat).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def _along(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = numbers(draw, shape(draw, 1, 4))
        dim = axis(draw, x.ndim)
        sizes = list(x.shape)
        sizes[dim] = draw(st.integers(1, 5))
        arguments = {"x": x, "indices": ints(draw, tuple(sizes), 0, x.shape[dim] - 1), "axis": dim}
        if opset == "iOS17":
            arguments["validate_indices"] = optional(draw, draw(st.booleans()))
        return arguments

    return draw


def _nd(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = numbers(draw, shape(draw, 1, 4))
        batch = draw(st.integers(0, x.ndim - 1)) if opset != "iOS15" else 0
        depth = draw(st.integers(1, x.ndim - batch))
        lead = x.shape[:batch] + shape(draw, 0 if batch else 1, 2)
        columns = [ints(draw, lead, 0, x.shape[batch + i] - 1) for i in range(depth)]
        arguments: dict[str, Any] = {"x": x, "indices": np.stack(columns, -1)}
        if opset != "iOS15":
            arguments["batch_dims"] = batch
        if opset == "iOS17":
            # coremltools holds the last axis of indices against all of x's sizes at once.
            arguments["validate_indices"] = optional(draw, False)
        return arguments

    return draw


def _torch_nd(x: Any, indices: Any, batch_dims: int = 0, validate_indices: bool = False) -> Any:
    if batch_dims:
        return torch.stack([_torch_nd(a, i, batch_dims - 1) for a, i in zip(x, indices, strict=False)])
    return x[tuple(indices.long().unbind(-1))]


_MODES = ["update", "add", "sub", "mul", "max", "min"]
_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _distinct(draw: Any, count: int, size: int) -> np.ndarray:
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(size)
    return order[:count].astype(np.int32)


def _scatter(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        data = floats(draw, shape(draw, 1, 4), 0.5, 4, None, np.float32)
        dim = axis(draw, data.ndim)
        mode = draw(st.sampled_from(_MODES))
        if mode == "update":  # which of two updates of one element wins is not defined
            indices = _distinct(draw, draw(st.integers(1, data.shape[dim])), data.shape[dim])
        else:
            indices = ints(draw, (draw(st.integers(1, 6)),), 0, data.shape[dim] - 1)
        sizes = list(data.shape)
        sizes[dim] = len(indices)
        updates = floats(draw, tuple(sizes), 0.5, 4, None, np.float32)
        validate = optional(draw, draw(st.booleans())) if opset == "iOS17" else None
        return {
            "data": data,
            "indices": indices,
            "updates": updates,
            "axis": dim,
            "mode": mode,
            "validate_indices": validate,
        }

    return draw


def _torch_scatter(
    data: Any, indices: Any, updates: Any, axis: int, mode: str, validate_indices: bool = False
) -> Any:
    view = [1] * data.ndim
    view[axis] = -1
    return _torch_scatter_along(data, indices.reshape(view).expand_as(updates), updates, axis, mode)


def _scatter_along(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        arguments = _scatter(opset)(draw)
        view = [1] * arguments["data"].ndim
        view[arguments["axis"]] = -1
        wide = np.broadcast_to(arguments["indices"].reshape(view), arguments["updates"].shape)
        return {**arguments, "indices": np.ascontiguousarray(wide)}

    return draw


def _torch_scatter_along(
    data: Any, indices: Any, updates: Any, axis: int, mode: str, validate_indices: bool = False
) -> Any:
    indices = indices.long()
    if mode == "update":
        return data.scatter(axis, indices, updates)
    if mode == "sub":
        return data.scatter_reduce(axis, indices, -updates, "sum")
    return data.scatter_reduce(axis, indices, updates, _REDUCE[mode])


def _scatter_nd(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        data = floats(draw, shape(draw, 1, 4), 0.5, 4, None, np.float32)
        depth = draw(st.integers(1, data.ndim))
        mode = draw(st.sampled_from(["update", "add", "sub"]))
        places = int(np.prod(data.shape[:depth]))
        if mode == "update":
            flat = _distinct(draw, draw(st.integers(1, places)), places)
        else:
            flat = ints(draw, (draw(st.integers(1, 6)),), 0, places - 1)
        indices = np.stack(np.unravel_index(flat, data.shape[:depth]), -1).astype(np.int32)
        updates = floats(draw, (len(flat), *data.shape[depth:]), 0.5, 4, None, np.float32)
        validate = optional(draw, False) if opset == "iOS17" else None
        return {
            "data": data,
            "indices": indices,
            "updates": updates,
            "mode": mode,
            "validate_indices": validate,
        }

    return draw


def _torch_scatter_nd(
    data: Any, indices: Any, updates: Any, mode: str, validate_indices: bool = False
) -> Any:
    index = tuple(indices.long().unbind(-1))
    return data.index_put(index, -updates if mode == "sub" else updates, accumulate=mode != "update")


# Products and sums of up to six updates, in another order.
MANY: dict[str, Any] = {
    "ulps": 8,
    "apple_if": lambda a: a["mode"] == "update",
    "note": "coremltools' evaluation ignores the mode",
}
GATHER_SCATTER = [
    *[Case("gather", _gather(o), _torch_gather, opset=o) for o in ("iOS15", "iOS16", "iOS17")],
    *[
        Case(
            "gather_along_axis",
            _along(o),
            lambda x, indices, axis, validate_indices=False: torch.gather(x, axis, indices.long()),
            opset=o,
        )
        for o in ("iOS15", "iOS17")
    ],
    *[Case("gather_nd", _nd(o), _torch_nd, opset=o, apple=False) for o in ("iOS15", "iOS16", "iOS17")],
    *[Case("scatter", _scatter(o), _torch_scatter, opset=o, ulps=8, apple=False) for o in ("iOS15", "iOS17")],
    *[
        Case("scatter_along_axis", _scatter_along(o), _torch_scatter_along, opset=o, **MANY)
        for o in ("iOS15", "iOS17")
    ],
    *[
        Case("scatter_nd", _scatter_nd(o), _torch_scatter_nd, opset=o, ulps=8, apple=False)
        for o in ("iOS15", "iOS17")
    ],
]


def _distinct_values(draw: Any) -> np.ndarray:
    """No ties: their order is not defined."""
    sizes = shape(draw, 1, 4)
    order = (
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(int(np.prod(sizes))).reshape(sizes)
    )
    return order.astype(np.int32) if draw(st.booleans()) else (order / 4 - 9).astype(np.float32)


def _topk(opset: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = _distinct_values(draw)
        dim = axis(draw, x.ndim)
        arguments: dict[str, Any] = {
            "x": x,
            "k": draw(st.integers(1, x.shape[dim])),
            "axis": dim,
            "ascending": draw(st.booleans()),
        }
        if opset != "iOS15":
            arguments |= {"sort": optional(draw, True), "return_indices": draw(st.booleans())}
        if opset == "iOS17" and arguments["return_indices"]:
            arguments["output_indices_dtype"] = draw(st.sampled_from([None, "int32", "uint16"]))
        return arguments

    return draw


def _torch_topk(x: Any, k: int, axis: int, ascending: bool, return_indices: bool = True, **_: Any) -> Any:
    values, indices = torch.topk(x, k, axis, largest=not ascending)
    return (values, indices.int()) if return_indices else values


def _argsort(draw: Any) -> dict[str, Any]:
    x = _distinct_values(draw)
    return {
        "x": x,
        "axis": optional(draw, axis(draw, x.ndim)),
        "ascending": optional(draw, draw(st.booleans())),
    }


def _cumsum(draw: Any) -> dict[str, Any]:
    x = numbers(draw, shape(draw, 1, 4), special=None)
    return {"x": x, "axis": draw(st.integers(0, x.ndim - 1)), "reverse": optional(draw, draw(st.booleans()))}


def _torch_cumsum(x: Any, axis: int, reverse: bool = False) -> Any:
    return (
        torch.cumsum(x.flip(axis), axis).flip(axis).to(x.dtype)
        if reverse
        else torch.cumsum(x, axis).to(x.dtype)
    )


SORTING = [
    Case(
        "argsort",
        _argsort,
        lambda x, axis=-1, ascending=False: torch.argsort(x, axis, descending=not ascending).int(),
    ),
    *[Case("topk", _topk(o), _torch_topk, opset=o) for o in ("iOS15", "iOS16", "iOS17")],
    Case(
        "cumsum",
        _cumsum,
        _torch_cumsum,
        ulps=8,
        atol=4e-6,
        apple_if=lambda a: a["x"].dtype != np.float16,
        note="coremltools sums float16 in float16; its exclusive sum raises: see test_kernels.py",
    ),
]


def _affine(draw: Any) -> dict[str, Any]:
    signed = draw(st.booleans())
    kind, low, high = (np.int8, -128, 127) if signed else (np.uint8, 0, 255)
    data = ints(draw, shape(draw, 1, 4), low, high, kind)
    dim = axis(draw, data.ndim)
    size = () if draw(st.booleans()) else (data.shape[dim],)
    scale = floats(draw, size, 0.01, 2, None)
    return {
        "quantized_data": data,
        "zero_point": ints(draw, size, low, high, kind),
        "scale": scale,
        "axis": dim,
    }


def _vector(value: Any, data: Any, axis: Any) -> Any:
    if value.ndim == 0:
        return value
    view = [1] * data.ndim
    view[axis] = -1
    return value.reshape(view)


def _torch_affine(quantized_data: Any, zero_point: Any, scale: Any, axis: int) -> Any:
    return _torch_dequantize(quantized_data, scale, zero_point, axis)


def _dequantize(draw: Any) -> dict[str, Any]:
    found = _affine(draw)
    vector = found["scale"].ndim == 1
    return {
        "input": found["quantized_data"],
        "scale": found["scale"],
        "zero_point": optional(draw, found["zero_point"]),
        "axis": found["axis"] if vector else None,
    }


def _torch_dequantize(input: Any, scale: Any, zero_point: Any = None, axis: int | None = None) -> Any:
    shifted = input.float() - (0 if zero_point is None else _vector(zero_point.float(), input, axis))
    return shifted * _vector(scale, input, axis)


def _quantize(draw: Any) -> dict[str, Any]:
    found = _affine(draw)
    halves = np.array([-2.5, -0.5, 0.5, 1.5])
    x = floats(draw, found["quantized_data"].shape, -50, 50, halves, found["scale"].dtype)
    vector = found["scale"].ndim == 1
    scale = np.exp2(ints(draw, found["scale"].shape, -3, 3)).astype(x.dtype)  # so that no quotient is rounded
    return {
        "input": x,
        "scale": scale,
        "zero_point": optional(draw, found["zero_point"]),
        "output_dtype": found["quantized_data"].dtype.name,
        "axis": found["axis"] if vector else None,
    }


def _torch_quantize(
    input: Any, scale: Any, output_dtype: str, zero_point: Any = None, axis: int | None = None
) -> Any:
    levels = torch.round(input / _vector(scale, input, axis))
    levels = levels + (0 if zero_point is None else _vector(zero_point.float(), input, axis))
    return levels.clamp(*((-128, 127) if output_dtype == "int8" else (0, 255))).to(
        getattr(torch, output_dtype)
    )


def _pack(values: np.ndarray, bits: int) -> np.ndarray:
    unpacked = (values.reshape(-1, 1) >> np.arange(bits)) & 1
    return np.packbits(unpacked.astype(np.uint8), bitorder="little")


def _lut_16(draw: Any) -> dict[str, Any]:
    bits = draw(st.sampled_from([1, 2, 4, 6, 8]))
    sizes = shape(draw, 1, 3)
    indices = ints(draw, sizes, 0, 2**bits - 1)
    lut = floats(draw, (2**bits,), special=None)
    return {"indices": _pack(indices, bits), "lut": lut, "shape": np.array(sizes, np.uint32)}


def _torch_lut_16(indices: Any, lut: Any, shape: Any) -> Any:
    bits = int(np.log2(len(lut)))
    stream = (indices[:, None].int() >> torch.arange(8)) & 1
    count = int(np.prod(shape.numpy()))
    picked = (stream.flatten()[: count * bits].reshape(count, bits) << torch.arange(bits)).sum(-1)
    return lut[picked].reshape(shape.tolist())


def _lut_18(draw: Any) -> dict[str, Any]:
    bits = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    groups = shape(draw, 1, 3, largest=2)
    sizes = tuple(g * draw(st.integers(1, 3)) for g in groups)
    vector = draw(st.integers(1, 3))
    dim = axis(draw, len(sizes)) if vector > 1 else optional(draw, axis(draw, len(sizes)))
    indices = SubByte(ints(draw, sizes, 0, 2**bits - 1, np.uint8), f"uint{bits}")
    return {
        "indices": indices,
        "lut": floats(draw, (*groups, 2**bits, vector), special=None),
        "vector_axis": dim,
    }


def _torch_lut_18(indices: Any, lut: Any, vector_axis: int | None = None) -> Any:
    """Element by element, as the documentation puts it."""
    rank = indices.ndim
    axis = 0 if vector_axis is None else vector_axis % rank
    sizes = list(indices.shape)
    sizes[axis] *= lut.shape[-1]
    out = torch.empty(sizes)
    for place in np.ndindex(*sizes):
        source = list(place)
        source[axis], v = divmod(place[axis], lut.shape[-1])
        group = [s * g // n for s, g, n in zip(source, lut.shape, indices.shape, strict=False)]
        out[place] = lut[(*group, int(indices[tuple(source)]), v)]
    return out


def _sparse(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    mask = ints(draw, shape(draw, 1, 3), 0, 1, np.uint8)
    mask.flat[0] = 1  # an array without elements cannot be written
    return mask, floats(draw, (int(mask.sum()),), special=None)


def _sparse_16(draw: Any) -> dict[str, Any]:
    mask, data = _sparse(draw)
    return {
        "nonzero_data": data,
        "mask": np.packbits(mask, bitorder="little"),
        "shape": np.array(mask.shape, np.uint32),
    }


def _torch_sparse_16(nonzero_data: Any, mask: Any, shape: Any) -> Any:
    bits = ((mask[:, None].int() >> torch.arange(8)) & 1).flatten()[: int(np.prod(shape.numpy()))].bool()
    return torch.zeros(bits.shape).masked_scatter(bits, nonzero_data).reshape(shape.tolist())


def _sparse_18(draw: Any) -> dict[str, Any]:
    mask, data = _sparse(draw)
    return {"nonzero_data": data, "mask": SubByte(mask, "uint1")}


def _torch_sparse_18(nonzero_data: Any, mask: Any) -> Any:
    return torch.zeros(mask.shape).masked_scatter(mask.bool(), nonzero_data)


def _blockwise(draw: Any, data: np.ndarray | None = None) -> dict[str, Any]:
    kind, low, high = draw(
        st.sampled_from([("int4", -8, 7), ("uint4", 0, 15), ("int8", -128, 127), ("uint8", 0, 255)])
    )
    groups = shape(draw, 1, 3, largest=2)
    sizes = tuple(g * draw(st.integers(1, 3)) for g in groups)
    numpy_type = np.int8 if kind.startswith("i") else np.uint8
    offset = SubByte(ints(draw, groups, low, high, numpy_type), kind)
    return {
        "data": SubByte(ints(draw, sizes, low, high, numpy_type), kind),
        "scale": floats(draw, groups, 0.01, 2, None),
        "offset": optional(draw, offset),
    }


def _spread(value: Any, like: Any) -> Any:
    for i, (n, s) in enumerate(zip(like.shape, value.shape, strict=False)):
        value = value.repeat_interleave(n // s, i)
    return value


def _torch_blockwise(data: Any, scale: Any, offset: Any = None) -> Any:
    shifted = data.float() - (0 if offset is None else _spread(offset.float(), data))
    return shifted * _spread(scale, data)


def _lut_sparse(draw: Any) -> dict[str, Any]:
    found = _lut_18(draw)
    mask = ints(draw, found["indices"].array.shape, 0, 1, np.uint8)
    mask.flat[0] = 1
    return {
        "indices_mask": SubByte(mask, "uint1"),
        "indices_nonzero_data": SubByte(found["indices"].array[mask != 0], found["indices"].type),
        "lut": found["lut"],
        "vector_axis": found["vector_axis"],
    }


def _torch_lut_sparse(
    indices_mask: Any, indices_nonzero_data: Any, lut: Any, vector_axis: int | None = None
) -> Any:
    indices = torch.zeros(indices_mask.shape, dtype=torch.uint8).masked_scatter(
        indices_mask.bool(), indices_nonzero_data
    )
    dense = _torch_lut_18(indices, lut, vector_axis)
    mask = indices_mask if vector_axis is None else indices_mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask.bool()]


def _block_sparse(draw: Any) -> dict[str, Any]:
    found = _blockwise(draw)
    mask = ints(draw, found["data"].array.shape, 0, 1, np.uint8)
    mask.flat[0] = 1
    return {
        "data_mask": SubByte(mask, "uint1"),
        "nonzero_data": SubByte(found["data"].array[mask != 0], found["data"].type),
        "scale": found["scale"],
        "offset": found["offset"],
    }


def _torch_block_sparse(data_mask: Any, nonzero_data: Any, scale: Any, offset: Any = None) -> Any:
    data = torch.zeros(data_mask.shape, dtype=nonzero_data.dtype).masked_scatter(
        data_mask.bool(), nonzero_data
    )
    return data_mask, _torch_blockwise(data, scale, offset)[data_mask.bool()]


def _not_half(name: str) -> Any:
    return lambda a: a[name].dtype != np.float16


HALF = "coremltools computes float16 scales in float16"
COMPRESSION = [
    Case("constexpr_affine_dequantize", _affine, _torch_affine, opset="iOS16", ulps=1),
    Case(
        "constexpr_cast",
        lambda draw: {
            "source_val": floats(draw, shape(draw, 1, 3), dtype=np.float16),
            "output_dtype": "fp32",
        },
        lambda source_val, output_dtype: source_val.float(),
        opset="iOS16",
    ),
    Case("constexpr_lut_to_dense", _lut_16, _torch_lut_16, opset="iOS16"),
    Case("constexpr_lut_to_dense", _lut_18, _torch_lut_18, opset="iOS18"),
    Case("constexpr_sparse_to_dense", _sparse_16, _torch_sparse_16, opset="iOS16"),
    Case("constexpr_sparse_to_dense", _sparse_18, _torch_sparse_18, opset="iOS18"),
    Case(
        "constexpr_blockwise_shift_scale",
        _blockwise,
        _torch_blockwise,
        opset="iOS18",
        ulps=1,
        apple_if=_not_half("scale"),
        note=HALF,
    ),
    Case("constexpr_lut_to_sparse", _lut_sparse, _torch_lut_sparse, opset="iOS18"),
    Case(
        "constexpr_sparse_blockwise_shift_scale",
        _block_sparse,
        _torch_block_sparse,
        opset="iOS18",
        ulps=1,
        apple_if=_not_half("scale"),
        note=HALF,
    ),
    Case("dequantize", _dequantize, _torch_dequantize, opset="iOS17", ulps=1),
    Case("quantize", _quantize, _torch_quantize, opset="iOS17"),
]

CASES = GATHER_SCATTER + SORTING + COMPRESSION
