"""What changed from one adapter to another, in what they add to the base's weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_sim.adapters.adapter import LAYERS, Adapter, layer_of
from personality_common.errors import MismatchError


@dataclass(frozen=True)
class PartChange:
    """Of all layers' linear parts of one name: Euclidean norms of what is added before and after, and of the
    difference."""

    part: str
    before: float
    after: float
    difference: float


@dataclass(frozen=True)
class AdapterDifference:
    """From one adapter to another.

    Attributes:
        before, after: Euclidean norms of what each adds, over all weights.
        difference: norm of the difference.
        cosine: of the two; None where one adds nothing.
        parts: the same for each linear part, those with a difference.
    """

    before: float
    after: float
    difference: float
    cosine: float | None
    parts: tuple[PartChange, ...]


def difference(before: Adapter, after: Adapter) -> AdapterDifference:
    """Compare two adapters of one base.

    Raises:
        MismatchError: they are of two bases, or of layers of different shapes.
    """
    if before.base_sha256 != after.base_sha256:
        raise MismatchError(
            f"adapters must be of one base, are of {before.base_sha256[:12]} and {after.base_sha256[:12]}"
        )
    squares = {part: np.zeros(4) for part in LAYERS}
    for layer in sorted({name.rsplit(".", 1)[0] for name in (*before.tensors, *after.tensors)}):
        found = layer_of(f"{layer}.lora_A")
        assert found is not None
        x, y = _added(before, layer), _added(after, layer)
        x = np.zeros_like(y) if x is None and y is not None else x
        y = np.zeros_like(x) if y is None and x is not None else y
        assert x is not None
        assert y is not None
        if x.shape != y.shape:
            raise MismatchError(f"{layer} must have one shape in both adapters, has {x.shape} and {y.shape}")
        squares[found[1]] += [np.vdot(x, x), np.vdot(y, y), np.vdot(y - x, y - x), np.vdot(x, y)]
    parts = tuple(
        PartChange(part, *(float(value) for value in np.sqrt(sums[:3])))
        for part, sums in squares.items()
        if sums[2]
    )
    total = sum(squares.values(), np.zeros(4))
    first, second, change = (float(value) for value in np.sqrt(total[:3]))
    cosine = float(total[3]) / (first * second) if first * second else None
    return AdapterDifference(first, second, change, cosine, parts)


def _added(adapter: Adapter, layer: str) -> NDArray[np.float64] | None:
    """alpha / rank * B A, (out, in); None where it adds nothing there."""
    a, b = (adapter.tensors.get(f"{layer}.lora_{side}") for side in "AB")
    if a is None or b is None:
        return None
    product: NDArray[np.float64] = adapter.alpha / adapter.rank * (b.astype(np.float64) @ a)
    return product
