"""The head: all that a device may change."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from personality_common.contract import TOP_K
from personality_common.errors import DataError


class Head(NamedTuple):
    """`projection.weight` (V, d) and `output_bias` (V,), float32."""

    weight: Tensor
    bias: Tensor

    def logits(self, latents: Tensor) -> Tensor:
        """(N, d) to (N, V)."""
        return torch.addmm(self.bias, latents, self.weight.T)

    def towards(self, other: Head, share: float) -> Head:
        """The head a share of the way to another one; with 1, the other one itself."""
        if share == 1:
            return other
        pairs = zip(self, other, strict=True)
        return Head(*(ours + share * (theirs - ours) for ours, theirs in pairs))

    def distance(self, other: Head) -> float:
        """Euclidean norm of the difference over both tensors."""
        squares = [(a.double() - b.double()).square().sum() for a, b in zip(self, other, strict=True)]
        return float(torch.stack(squares).sum().sqrt())

    def changed(self, other: Head) -> int:
        """How many numbers differ."""
        return sum(int((a != b).sum()) for a, b in zip(self, other, strict=True))

    def check(self, latents: Tensor) -> None:
        """Raise DataError unless this is a finite float32 head for these latents."""
        shapes = (tuple(self.weight.shape), tuple(self.bias.shape), tuple(latents.shape))
        fits = (
            self.weight.ndim == 2
            and self.bias.shape == self.weight.shape[:1]
            and latents.ndim == 2
            and latents.shape[1] == self.weight.shape[1]
        )
        if not fits:
            raise DataError(f"a head and latents must be (V, d), (V,) and (N, d), got {shapes}")
        for name, tensor in (("weight", self.weight), ("bias", self.bias), ("latents", latents)):
            if tensor.dtype != torch.float32:
                raise DataError(f"{name} must be float32, got {tensor.dtype}")
            if not bool(tensor.isfinite().all()):
                raise DataError(f"{name} must be finite, got inf or NaN")


def top_overlap(logits: Tensor, other: Tensor, k: int = TOP_K) -> Tensor:
    """(N,) float64, share of the top k tokens that two sets of logits (N, V) have in common."""
    ours, theirs = logits.topk(k).indices, other.topk(k).indices
    return (ours[:, :, None] == theirs[:, None]).any(-1).double().mean(-1)
