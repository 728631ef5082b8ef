"""Conformance of ops that move elements about, and of those that make arrays: all exact."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from mil_harness import Case, axes, axis, bools, floats, ints, number, numbers, optional, shape
from torch.nn import functional as F


def _any(draw: Any, low: int = 1, high: int = 4) -> np.ndarray:
    sizes = shape(draw, low, high)
    return bools(draw, sizes) if draw(st.integers(0, 4)) == 0 else numbers(draw, sizes)


def _expand_dims(draw: Any) -> dict[str, Any]:
    x = _any(draw, 0, 3)
    count = draw(st.integers(1, 2))
    rank = x.ndim + count
    chosen = draw(st.lists(st.integers(0, rank - 1), min_size=count, max_size=count, unique=True))
    return {"x": x, "axes": tuple(a - rank * draw(st.integers(0, 1)) for a in chosen)}


def _torch_expand_dims(x: Any, axes: Any) -> Any:
    rank = x.ndim + len(axes)
    for a in sorted(a % rank for a in axes):
        x = x.unsqueeze(a)
    return x


def _squeeze(draw: Any) -> dict[str, Any]:
    sizes = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=3)))
    sizes = sizes if sizes in ((1,), (2,)) else (*sizes, 2)  # coremltools squeezes no matrix to a scalar
    x = numbers(draw, sizes)
    single = [i for i, size in enumerate(sizes) if size == 1]
    chosen = draw(st.lists(st.sampled_from(single), unique=True, min_size=1)) if single else None
    return {"x": x, "axes": None if chosen is None else optional(draw, tuple(chosen))}


def _reshape(ios17: bool) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = _any(draw, 0, 4)
        target = list(draw(st.permutations(x.shape)))
        if draw(st.booleans()):
            target.insert(draw(st.integers(0, len(target))), 1)
        if len(target) > 1 and draw(st.booleans()):
            target[0:2] = [target[0] * target[1]]
        if ios17 and draw(st.booleans()):
            target = [0] * x.ndim  # counted from the end, and 1 beyond x
            target = [0] * draw(st.integers(0, 2)) + target
        elif len(target) == x.ndim:
            target = [
                0 if size == old and draw(st.booleans()) else size
                for size, old in zip(target, x.shape, strict=False)
            ]
        if target and draw(st.booleans()):
            target[draw(st.integers(0, len(target) - 1))] = -1
        return {"x": x, "shape": tuple(target)}

    return draw


def _torch_reshape(x: Any, shape: Any) -> Any:
    # Only ever asked for shapes without more zeros than x has axes.
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _reshape_like(draw: Any) -> dict[str, Any]:
    x = _any(draw, 2, 4)
    cut = draw(st.integers(1, x.ndim - 1))
    first = np.zeros((*x.shape[:cut], 7), np.float32)
    second = np.zeros((3, *x.shape[cut:]), np.float32)
    return {
        "x": x,
        "ref_tensors": [first, second],
        "begins": [0, 1],
        "ends": [cut, 0],
        "end_masks": [False, True],
    }


def _transpose(draw: Any) -> dict[str, Any]:
    x = _any(draw)
    perm = draw(st.permutations(range(x.ndim)))
    return {"x": x, "perm": tuple(p - x.ndim * draw(st.integers(0, 1)) for p in perm)}


def _reverse_sequence(draw: Any) -> dict[str, Any]:
    x = _any(draw, 2, 4)
    batch, sequence = draw(st.permutations(range(x.ndim)))[:2]
    lengths = ints(draw, (x.shape[batch],), 0, x.shape[sequence])
    return {"x": x, "lengths": lengths, "seq_axis": sequence, "batch_axis": batch}


def _torch_reverse_sequence(x: Any, lengths: Any, seq_axis: int, batch_axis: int) -> Any:
    x = x.movedim((batch_axis, seq_axis), (0, 1)).clone()
    for i, length in enumerate(lengths.tolist()):
        x[i, :length] = x[i, :length].flip(0)
    return x.movedim((0, 1), (batch_axis, seq_axis))


def _flatten2d(draw: Any) -> dict[str, Any]:
    x = _any(draw, 2)  # coremltools' type inference stumbles over an empty side
    return {
        "x": x,
        "axis": optional(draw, draw(st.integers(1, x.ndim - 1)) - x.ndim * draw(st.integers(0, 1))),
    }


def _flatten(x: Any, axis: int = 1) -> Any:
    axis = axis if axis >= 0 else axis + x.ndim
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _shuffle(draw: Any) -> dict[str, Any]:
    n, c, h, w, f = (draw(st.integers(1, 3)) for _ in range(5))
    return {"x": floats(draw, (n, c * f * f, h, w)), "upscale_factor": f}


def _unshuffle(draw: Any) -> dict[str, Any]:
    n, c, h, w, f = (draw(st.integers(1, 3)) for _ in range(5))
    return {"x": floats(draw, (n, c, h * f, w * f)), "downscale_factor": np.uint32(f)}


SHAPE = [
    Case("expand_dims", _expand_dims, _torch_expand_dims),
    Case("squeeze", _squeeze, lambda x, axes=None: x.squeeze() if axes is None else x.squeeze(axes)),
    Case("reshape", _reshape(False), _torch_reshape),
    Case(
        "reshape",
        _reshape(True),
        _torch_reshape,
        opset="iOS17",
        torch_if=lambda a: 0 not in a["shape"],
        note="torch counts zeros from the front",
    ),
    Case(
        "reshape_like",
        _reshape_like,
        lambda x, ref_tensors, **_: x.reshape(ref_tensors[0].shape[:-1] + ref_tensors[1].shape[1:]),
        opset="iOS16",
        apple=False,
    ),
    Case("transpose", _transpose, lambda x, perm: x.permute(perm)),
    Case(
        "reverse",
        lambda draw: {"x": (x := _any(draw)), "axes": optional(draw, axes(draw, x.ndim))},
        lambda x, axes=None: x.flip(tuple(range(x.ndim)) if axes is None else axes),
    ),
    Case("reverse_sequence", _reverse_sequence, _torch_reverse_sequence, apple=False),
    Case("flatten2d", _flatten2d, _flatten),
    Case("identity", lambda draw: {"x": _any(draw, 0)}, lambda x: x),
    Case("shape", lambda draw: {"x": _any(draw)}, lambda x: torch.tensor(x.shape, dtype=torch.int32)),
    Case(
        "pixel_shuffle", _shuffle, lambda x, upscale_factor: F.pixel_shuffle(x, upscale_factor), apple=False
    ),
    Case(
        "pixel_unshuffle",
        _unshuffle,
        lambda x, downscale_factor: F.pixel_unshuffle(x, int(downscale_factor)),
        opset="iOS16",
        apple=False,
    ),
]


def _range_of(draw: Any, size: int) -> tuple[int, int, int, bool, bool]:
    """begin, end, stride and masks of a slice with at least one element."""
    step = draw(st.integers(1, 3)) * draw(st.sampled_from([1, 1, -1]))
    first, last = sorted((draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))))
    begin_open, end_open = draw(st.booleans()), draw(st.booleans())
    if step > 0:
        return first - size * draw(st.integers(0, 1)), last + 1, step, begin_open, end_open
    # Backwards past the first element is an end that only the mask can say.
    return last, first - 1, step, begin_open, end_open or first == 0


def _slice(squeeze: bool = True) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = (
            numbers(draw, shape(draw, 1, 4), dtype=np.float32)
            if not squeeze
            else numbers(draw, shape(draw, 2, 4), dtype=np.float32)
        )
        parts = [_range_of(draw, size) for size in x.shape]
        begin, end, stride, begin_mask, end_mask = (tuple(part) for part in zip(*parts, strict=False))
        mask = None
        if squeeze and draw(st.booleans()):
            mask = (*(draw(st.booleans()) for _ in x.shape[1:]), False)
            stride = tuple(1 if m else s for m, s in zip(mask, stride, strict=False))
            begin_mask = tuple(False if m else b for m, b in zip(mask, begin_mask, strict=False))
        return {
            "x": x,
            "begin": begin,
            "end": end,
            "stride": stride,
            "begin_mask": begin_mask,
            "end_mask": end_mask,
            "squeeze_mask": mask,
        }

    return draw


def _torch_slice(
    x: Any, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any, squeeze_mask: Any = None
) -> Any:
    """With index lists, since torch has no negative steps."""
    squeezed = []
    for i, size in enumerate(x.shape):
        if squeeze_mask is not None and squeeze_mask[i]:
            picked = [range(size)[begin[i]]]
            squeezed.append(i)
        else:
            picked = list(range(size))[
                slice(None if begin_mask[i] else begin[i], None if end_mask[i] else end[i], stride[i])
            ]
        x = x.index_select(i, torch.tensor(picked, dtype=torch.int64))
    return x.squeeze(squeezed) if squeezed else x


def _slice_update(draw: Any) -> dict[str, Any]:
    arguments = _slice(squeeze=False)(draw)
    del arguments["squeeze_mask"]
    taken = _torch_slice(torch.from_numpy(arguments["x"]), **{k: v for k, v in arguments.items() if k != "x"})
    make = ints if arguments["x"].dtype == np.int32 else floats
    update = make(draw, tuple(taken.shape), dtype=arguments["x"].dtype)
    return {**arguments, "update": update}


def _torch_slice_update(x: Any, update: Any, **where: Any) -> Any:
    places = _torch_slice(torch.arange(x.numel()).reshape(x.shape), **where)
    return x.flatten().index_copy(0, places.flatten(), update.flatten()).reshape(x.shape)


def _slice_by_size(draw: Any) -> dict[str, Any]:
    x = numbers(draw, shape(draw, 1, 4))
    begin = tuple(draw(st.integers(0, size - 1)) for size in x.shape)
    size = tuple(
        draw(st.sampled_from([-1, draw(st.integers(1, s - b))])) for s, b in zip(x.shape, begin, strict=False)
    )
    return {"x": x, "begin": begin, "size": size}


def _torch_slice_by_size(x: Any, begin: Any, size: Any) -> Any:
    for i, (first, count) in enumerate(zip(begin, size, strict=False)):
        x = x.narrow(i, first, x.shape[i] - first if count == -1 else count)
    return x


def _concat(interleave: bool) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        sizes = list(shape(draw, 1, 4))
        dim = draw(st.integers(0, len(sizes) - 1))
        first = floats(draw, tuple(sizes))
        values = [first]
        for _ in range(draw(st.integers(1, 2))):
            if not interleave:
                sizes[dim] = draw(st.integers(1, 4))
            values.append(floats(draw, tuple(sizes), dtype=first.dtype))
        where = dim - len(sizes) * draw(st.integers(0, 1))
        return {"values": values, "axis": where, "interleave": interleave or optional(draw, False)}

    return draw


def _torch_interleave(values: Any, axis: int, interleave: bool) -> Any:
    axis %= values[0].ndim
    return torch.cat(
        [piece for i in range(values[0].shape[axis]) for piece in (v.narrow(axis, i, 1) for v in values)],
        axis,
    )


def _stack(draw: Any) -> dict[str, Any]:
    first = floats(draw, shape(draw, 1, 3))
    rest = [floats(draw, first.shape, dtype=first.dtype) for _ in range(draw(st.integers(0, 2)))]
    return {"values": [first, *rest], "axis": draw(st.integers(-first.ndim - 1, first.ndim))}


def _split(draw: Any) -> dict[str, Any]:
    sizes = list(shape(draw, 1, 3))
    dim = draw(st.integers(0, len(sizes) - 1))
    parts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    where = dim - len(sizes) * draw(st.integers(0, 1))
    if draw(st.booleans()):
        sizes[dim] = sum(parts)
        return {"x": numbers(draw, tuple(sizes)), "axis": where, "split_sizes": tuple(parts)}
    sizes[dim] *= len(parts)
    return {"x": numbers(draw, tuple(sizes)), "axis": where, "num_splits": len(parts)}


def _torch_split(x: Any, axis: int, num_splits: int = 0, split_sizes: Any = None) -> Any:
    return x.split(list(split_sizes) if split_sizes else x.shape[axis] // num_splits, axis)


def _windows(draw: Any) -> dict[str, Any]:
    x = numbers(draw, shape(draw, 1, 4, largest=7))
    dim = axis(draw, x.ndim)
    return {
        "x": x,
        "axis": dim,
        "size": draw(st.integers(1, x.shape[dim])),
        "stride": optional(draw, draw(st.integers(1, 3))),
    }


SLICING = [
    Case("slice_by_index", _slice(), _torch_slice),
    Case("slice_update", _slice_update, _torch_slice_update, opset="iOS18"),
    Case("slice_by_size", _slice_by_size, _torch_slice_by_size),
    Case("concat", _concat(False), lambda values, axis, interleave=False: torch.cat(values, axis)),
    Case(
        "concat",
        _concat(True),
        _torch_interleave,
        apple=False,
        note="coremltools' evaluation ignores interleave",
    ),
    Case("stack", _stack, lambda values, axis: torch.stack(values, axis)),
    Case("split", _split, _torch_split),
    Case(
        "sliding_windows",
        _windows,
        lambda x, axis, size, stride=1: x.unfold(axis, size, stride).movedim(-1, axis % x.ndim + 1),
        apple=False,
    ),
]


def _band(draw: Any) -> dict[str, Any]:
    x = numbers(draw, shape(draw, 2, 4), special=np.array([0.0, 1e-40]))
    return {
        "x": x,
        "lower": optional(draw, draw(st.integers(-1, 4))),
        "upper": optional(draw, draw(st.integers(-1, 4))),
    }


def _torch_band(x: Any, lower: int = -1, upper: int = -1) -> Any:
    x = x if lower < 0 else torch.triu(x, -lower)
    return x if upper < 0 else torch.tril(x, upper)


def _fill(draw: Any) -> dict[str, Any]:
    value = draw(st.sampled_from([None, number(draw, -9, 9), 7, True]))
    return {"shape": shape(draw, 1, 4), "value": value}


def _torch_fill(shape: Any, value: Any = 0.0) -> Any:
    dtype = (
        torch.bool if isinstance(value, bool) else torch.int32 if isinstance(value, int) else torch.float32
    )
    return torch.full(shape, value, dtype=dtype)


def _one_hot(draw: Any) -> dict[str, Any]:
    size = draw(st.integers(1, 5))
    indices = ints(draw, shape(draw, 1, 3), 0, size - 1)
    on, off = draw(st.sampled_from([(None, None), (number(draw, 1, 2), number(draw, -1, 0)), (5, -5)]))
    return {
        "indices": indices,
        "one_hot_vector_size": size,
        "axis": optional(draw, draw(st.integers(-indices.ndim - 1, indices.ndim))),
        "on_value": on,
        "off_value": off,
    }


def _torch_one_hot(
    indices: Any, one_hot_vector_size: int, axis: int = -1, on_value: Any = 1, off_value: Any = 0
) -> Any:
    hot = F.one_hot(indices.long(), one_hot_vector_size).movedim(-1, axis)
    return torch.where(hot == 1, on_value, off_value).to(
        torch.float32 if isinstance(on_value, float) else torch.int32
    )


def _pad(mode: str) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        # torch reflects and replicates from rank 2 on, and not all of the axes.
        x = floats(draw, shape(draw, *((1, 4) if mode == "constant" else (3, 4)), smallest=3))
        count = draw(st.integers(1, x.ndim)) if mode == "constant" else x.ndim - draw(st.integers(1, 2))
        pad = tuple(draw(st.integers(0, 2)) for _ in range(2 * count))
        value = optional(draw, number(draw, -9, 9)) if mode == "constant" else None
        return {
            "x": x,
            "pad": pad,
            "mode": optional(draw, mode) if mode == "constant" else mode,
            "constant_val": value,
        }

    return draw


def _torch_pad(x: Any, pad: Any, mode: str = "constant", constant_val: float = 0.0) -> Any:
    pairs = [p for i in range(len(pad) - 2, -1, -2) for p in pad[i : i + 2]]
    return F.pad(x, pairs, mode, constant_val) if mode == "constant" else F.pad(x, pairs, mode)


def _range(draw: Any) -> dict[str, Any]:
    make = (lambda n: n) if draw(st.booleans()) else (lambda n: n / 4)  # quarters are exact
    step = draw(st.integers(1, 5)) * draw(st.sampled_from([1, -1]))
    start = draw(st.integers(-20, 20))
    end = start + step * draw(st.integers(1, 9)) + draw(st.integers(0, 1)) * (1 if step > 0 else -1)
    return {"start": make(start), "end": make(end), "step": make(step)}


TENSOR = [
    Case("band_part", _band, _torch_band, torch_if=lambda a: a["x"].dtype != np.bool_),
    Case("fill", _fill, _torch_fill),
    Case(
        "fill_like",
        lambda draw: {"ref_tensor": _any(draw), "value": _fill(draw)["value"]},
        lambda ref_tensor, value=0.0: _torch_fill(ref_tensor.shape, value),
        opset="iOS16",
    ),
    Case(
        "non_zero", lambda draw: {"x": ints(draw, shape(draw, 1, 4), 0, 1)}, lambda x: torch.nonzero(x).int()
    ),
    Case("one_hot", _one_hot, _torch_one_hot, apple=False),
    *[Case("pad", _pad(mode), _torch_pad) for mode in ("constant", "reflect", "replicate")],
    Case(
        "range_1d",
        _range,
        lambda end, start, step: torch.arange(
            start, end, step, dtype=torch.float32 if isinstance(end, float) else torch.int32
        ),
    ),
    Case(
        "tile",
        lambda draw: {"x": (x := _any(draw)), "reps": tuple(draw(st.integers(1, 3)) for _ in x.shape)},
        lambda x, reps: x.tile(reps),
    ),
]

CASES = SHAPE + SLICING + TENSOR
