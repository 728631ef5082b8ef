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
        """(N, d) to (N, V); for heads stacked in front, (D, N, d) to (D, N, V), each with the same bits."""
        return self.products(latents) + self.bias.unsqueeze(-2)

    def products(self, latents: Tensor) -> Tensor:
        """`logits` without the bias."""
        if latents.ndim == 2:
            return torch.bmm(latents[None], self.weight[None].transpose(1, 2))[0]
        return torch.bmm(latents, self.weight.transpose(1, 2))

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


def top_tokens(logits: Tensor, k: int = TOP_K) -> Tensor:
    """(…, k) indices of the largest logits (…, V), the largest first."""
    # With 64 columns or more per index asked for, PyTorch sorts only the few best: three times faster.
    missing = 64 * k - logits.shape[-1]
    if missing > 0:
        logits = torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)
    return logits.topk(k, dim=-1).indices


def overlap_of(ours: Tensor, theirs: Tensor) -> Tensor:
    """(…,) float64, share of the tokens (…, k) that two sets have in common."""
    return (ours[..., :, None] == theirs[..., None, :]).any(-1).double().mean(-1)


def top_overlap(logits: Tensor, other: Tensor, k: int = TOP_K) -> Tensor:
    """(N,) float64, share of the top k tokens that two sets of logits (N, V) have in common."""
    return overlap_of(top_tokens(logits, k), top_tokens(other, k))
