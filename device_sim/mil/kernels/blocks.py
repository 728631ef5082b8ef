"""Moving blocks of pixels between space, channels and batch.

Source: coremltools, mil/ops/defs/iOS15/tensor_transformation.py; the order of channels and images is
TensorFlow's, whose ops of the same names the converter maps to them.
"""

from __future__ import annotations

import numpy as np

from device_sim.mil.registry import op
from device_sim.mil.types import Array, Ints, prod


@op("depth_to_space")
def depth_to_space(x: Array, block_size: int) -> Array:
    """(N, b b C, H, W) to (N, C, H b, W b): a channel's place in its block comes first."""
    _need_rank4(x)
    n, c, h, w = x.shape
    b = block_size
    if b < 1 or c % (b * b):
        raise ValueError(f"{c} channels cannot be divided by block_size {b} squared")
    blocks = x.reshape(n, b, b, c // (b * b), h, w)
    return blocks.transpose(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


@op("space_to_depth")
def space_to_depth(x: Array, block_size: int) -> Array:
    """(N, C, H b, W b) to (N, b b C, H, W)."""
    _need_rank4(x)
    n, c, h, w = x.shape
    b = block_size
    if b < 1 or h % b or w % b:
        raise ValueError(f"sizes {h} and {w} cannot be divided by block_size {b}")
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    return blocks.transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def _batch_size(x: Array, block_shape: Ints, paddings: Array) -> int:
    _need_rank4(x)
    _need_pairs(block_shape, paddings)
    (top, bottom), (left, right) = paddings.tolist()
    return prod((*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right))


@op("space_to_batch", size=_batch_size)
def space_to_batch(x: Array, block_shape: Ints, paddings: Array) -> Array:
    """(N, C, H, W), padded with zeros, to (b0 b1 N, C, H / b0, W / b1)."""
    padded = np.pad(x, [(0, 0), (0, 0), *paddings.tolist()])
    n, c, h, w = padded.shape
    down, across = block_shape
    if h % down or w % across:
        raise ValueError(f"padded sizes {h} and {w} cannot be divided by blocks {list(block_shape)}")
    blocks = padded.reshape(n, c, h // down, down, w // across, across)
    return blocks.transpose(3, 5, 0, 1, 2, 4).reshape(n * down * across, c, h // down, w // across)


@op("batch_to_space")
def batch_to_space(x: Array, block_shape: Ints, crops: Array) -> Array:
    """(b0 b1 N, C, H, W) to (N, C, H b0, W b1), less the crops."""
    _need_rank4(x)
    _need_pairs(block_shape, crops)
    n, c, h, w = x.shape
    down, across = block_shape
    if n % (down * across):
        raise ValueError(f"{n} images cannot be divided by blocks {list(block_shape)}")
    n //= down * across
    blocks = x.reshape(down, across, n, c, h, w).transpose(2, 3, 4, 0, 5, 1)
    whole = blocks.reshape(n, c, h * down, w * across)
    (top, bottom), (left, right) = crops.tolist()
    if top + bottom > whole.shape[2] or left + right > whole.shape[3]:
        raise ValueError(f"crops {crops.tolist()} are larger than {list(whole.shape[2:])}")
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]


def _need_rank4(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"x must have rank 4, got {list(x.shape)}")


def _need_pairs(block_shape: Ints, pairs: Array) -> None:
    fits = len(block_shape) == 2 and min(block_shape) > 0 and pairs.shape == (2, 2)
    if not fits or pairs.dtype.kind not in "iu" or pairs.min() < 0:
        raise ValueError(
            f"two positive block sizes and two pairs that are not negative are expected, "
            f"got {list(block_shape)} and {pairs.tolist() if pairs.size < 9 else list(pairs.shape)}"
        )
