"""Where texts lie along the axes in which they differ most."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from grpo.exact import one_thread

TOPICS: Final = 4


class Topics(NamedTuple):
    """Principal components of the embeddings of some texts."""

    centre: Tensor  # (d,) mean of the texts, each of norm 1
    axes: Tensor  # (d, TOPICS); along each, the texts' deviation is 1

    @classmethod
    def among(cls, texts: Tensor) -> Topics:
        """Of (M, d) texts."""
        with one_thread():
            unit = torch.nn.functional.normalize(texts, dim=-1).double()
            centre = unit.mean(0)
            variances, axes = torch.linalg.eigh((unit - centre).T @ (unit - centre) / len(unit))
            axes = axes[:, -TOPICS:] / variances[-TOPICS:].clamp(min=1e-12).sqrt()
        return cls(centre.to(texts.dtype), axes.to(texts.dtype))

    def of(self, texts: Tensor) -> Tensor:
        """(N, d) to (N, TOPICS)."""
        return (torch.nn.functional.normalize(texts, dim=-1) - self.centre) @ self.axes
