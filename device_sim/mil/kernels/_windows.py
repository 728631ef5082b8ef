"""How a kernel slides over the spatial axes of an array: for convolution and pooling.

Source: coremltools, mil/ops/defs/_utils.py (sizes); `same` pads the end more where the padding is odd, and
`same_lower` the start, as Core ML's BOTTOM_RIGHT_HEAVY and TOP_LEFT_HEAVY.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from device_sim.mil.types import Array, Ints, Number, prod

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Windows:
    """A kernel of these sizes at every position of `out`; all by spatial axis."""

    kernel: Ints
    strides: Ints
    dilations: Ints
    pads: Pairs
    """Before and after, as the model states them."""
    spatial: Ints
    """Sizes of the array, without padding."""
    out: Ints
    """Sizes of the result."""

    @property
    def padded(self) -> Ints:
        """Sizes of the padded array that the windows reach."""
        axes = zip(self.out, self.strides, reach(self.kernel, self.dilations), strict=True)
        return tuple((out - 1) * stride + size for out, stride, size in axes)

    @property
    def plain(self) -> bool:
        """Whether each position sees its own element only."""
        ones = (1,) * len(self.kernel)
        return self.kernel == ones and self.strides == ones and self.padded == self.spatial

    def pad(self, x: Array, fill: Number = 0) -> Array:
        """x (N, C, *spatial) as the windows see it: (N, C, *padded)."""
        if self.padded == self.spatial and not any(before for before, _ in self.pads):
            return x
        result = np.full((*x.shape[:2], *self.padded), fill, x.dtype)
        into, out_of = [slice(None)] * 2, [slice(None)] * 2
        for (before, _), size, padded in zip(self.pads, self.spatial, self.padded, strict=True):
            kept = max(0, min(size, padded - before))
            into.append(slice(before, before + kept))
            out_of.append(slice(0, kept))
        result[tuple(into)] = x[tuple(out_of)]
        return result

    def view(self, padded: Array) -> Array:
        """(N, C, *kernel, *out) of what `pad` returned, without a copy; not to be written to."""
        steps = padded.strides[2:]
        kernel = [step * dilation for step, dilation in zip(steps, self.dilations, strict=True)]
        out = [step * stride for step, stride in zip(steps, self.strides, strict=True)]
        shape = (*padded.shape[:2], *self.kernel, *self.out)
        return as_strided(padded, shape, (*padded.strides[:2], *kernel, *out), writeable=False)


def reach(kernel: Sequence[int], dilations: Sequence[int]) -> Ints:
    """Elements from the first to the last that a kernel covers."""
    return tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True))


def slide(
    spatial: Ints,
    kernel: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    ceil_mode: bool = False,
) -> Windows:
    """Windows for MIL's parameters; `pad` counts for `custom` only.

    Raises:
        ValueError: sizes that do not fit, or no position at all.
    """
    rank = len(spatial)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    if not rank or not len(kernel) == len(strides) == len(dilations) == rank:
        raise ValueError(
            f"{rank} spatial sizes need as many kernel sizes, strides and dilations, "
            f"got {list(kernel)}, {list(strides)}, {list(dilations)}"
        )
    if min(*kernel, *strides, *dilations) < 1:
        raise ValueError(
            f"kernel {list(kernel)}, strides {list(strides)} and dilations {list(dilations)} must be positive"
        )
    pads = padding(spatial, reach(kernel, dilations), strides, pad_type, pad)
    out = []
    axes = zip(spatial, reach(kernel, dilations), strides, pads, strict=True)
    for size, wide, stride, (before, after) in axes:
        total = before + after
        if ceil_mode:
            count = -((wide - size - total) // stride) + 1
            count -= total > 0 and (count - 1) * stride >= size + total / 2
        else:
            count = (size + total - wide) // stride + 1
        out.append(count)
    if min(out) < 1:
        raise ValueError(
            f"kernel {list(kernel)}, with dilations {list(dilations)}, is larger than {list(spatial)} "
            f"padded by {pads}"
        )
    return Windows(kernel, strides, dilations, pads, spatial, tuple(out))


def padding(spatial: Ints, wide: Ints, strides: Ints, pad_type: str, pad: Ints | None) -> Pairs:
    """Before and after, by spatial axis; `wide` is the kernel with its dilation."""
    if pad_type == "valid":
        return ((0, 0),) * len(spatial)
    if pad_type == "custom":
        pad = pad or (0, 0) * len(spatial)
        if len(pad) != 2 * len(spatial) or min(pad) < 0:
            raise ValueError(f"pad must be {len(spatial)} pairs that are not negative, got {list(pad)}")
        return tuple(zip(pad[::2], pad[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type must be valid, custom, same or same_lower, got {pad_type!r}")
    pads = []
    for size, reached, stride in zip(spatial, wide, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + reached - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type == "same" else (more, less))
    return tuple(pads)


def size_of(x: Array, channels: int, windows: Windows) -> int:
    """Elements of the larger of the padded array and a result with so many channels."""
    return max(prod((*x.shape[:2], *windows.padded)), prod((x.shape[0], channels, *windows.out)))
