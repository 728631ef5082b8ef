"""Sizes of results, computed from arguments before anything is allocated; and checked axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from device_sim.mil.types import Array, Ints, prod


def broadcast(*arrays: Any, **named: Any) -> int:
    """Elements of what these arrays broadcast to; no element is touched."""
    return prod(np.broadcast_shapes(*(np.shape(a) for a in (*arrays, *named.values()))))


def axis_in(axis: int, rank: int) -> int:
    """`axis` counted from the front.

    Raises:
        ValueError: not in [-rank, rank).
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank


def axes_in(axes: Ints | None, rank: int) -> Ints:
    """`axes` counted from the front and in order; None means all.

    Raises:
        ValueError: one is out of range or named twice.
    """
    if axes is None:
        return tuple(range(rank))
    front = sorted(axis_in(axis, rank) for axis in axes)
    if len(set(front)) != len(front):
        raise ValueError(f"axes {axes} name an axis twice")
    return tuple(front)


def along_channel(vector: Array, x: Array, name: str) -> Array:
    """A vector (C,) shaped to go along axis 1 of `x` (N, C, …).

    Raises:
        ValueError: its length is not the number of channels.
    """
    if x.ndim < 2 or vector.shape != (x.shape[1],):
        raise ValueError(
            f"{name} must have one value per channel of x{list(x.shape)}, got {list(vector.shape)}"
        )
    return vector.reshape(1, -1, *([1] * (x.ndim - 2)))
