"""Feedback as tensors: what a night's update reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from grpo.policies import PADDING
from personality_common.errors import DataError


@dataclass(frozen=True)
class Groups:
    """Candidates with their rewards, a row per text.

    Attributes:
        actions: (N, G, K) int64 token indices in the order drawn, padded with -1. A candidate that is
            all padding and has no reward fills a group up to G.
        rewards: reward function -> (N, G) float; NaN marks no feedback.
        behaviour: (N, G) float64, log-probability of the set under the policy that drew it; NaN where it is
            unknown, which means the head at the start of the update. None: unknown everywhere.
    """

    actions: Tensor
    rewards: Mapping[str, Tensor] = field(default_factory=dict)
    behaviour: Tensor | None = None

    def __post_init__(self) -> None:
        if self.actions.ndim != 3 or self.actions.dtype != torch.int64:
            raise DataError(
                "actions must be (texts, group, width) int64,"
                f" got {tuple(self.actions.shape)} {self.actions.dtype}"
            )
        shape = self.actions.shape[:2]
        arrays = dict(self.rewards) | ({"behaviour": self.behaviour} if self.behaviour is not None else {})
        for name, values in arrays.items():
            if values.shape != shape:
                raise DataError(f"{name} must be (texts, group) {tuple(shape)}, got {tuple(values.shape)}")
        if not self.rewards:
            raise DataError("groups must have rewards of at least one function, got none")
        # Sorted, equal neighbours that are not padding are one token drawn twice.
        ordered = np.sort(self.actions.numpy(), -1)
        twice = ordered[..., 1:] == ordered[..., :-1]
        if twice.any() and (ordered[..., 1:][twice] != PADDING).any():
            raise DataError("a candidate must have each token once, got one twice")

    def __len__(self) -> int:
        return len(self.actions)


def concatenate(parts: Sequence[Groups]) -> Groups:
    """Join groups of several nights; shorter candidates and smaller groups are padded."""
    names = {name for part in parts for name in part.rewards}
    group, width = (max(part.actions.shape[axis] for part in parts) for axis in (1, 2))

    def pad(values: Tensor, fill: float) -> Tensor:
        missing = [width - values.shape[2], 0] if values.ndim == 3 else [0]
        pads = [0, *missing, group - values.shape[1]] if values.ndim == 3 else [0, group - values.shape[1]]
        return torch.nn.functional.pad(values, pads, value=fill)

    def nothing(part: Groups) -> Tensor:
        return torch.full(part.actions.shape[:2], torch.nan, dtype=torch.float64)

    return Groups(
        actions=torch.cat([pad(part.actions, PADDING) for part in parts]),
        rewards={
            name: torch.cat(
                [pad(part.rewards.get(name, nothing(part)).double(), torch.nan) for part in parts]
            )
            for name in sorted(names)
        },
        behaviour=torch.cat(
            [pad(nothing(p) if p.behaviour is None else p.behaviour.double(), torch.nan) for p in parts]
        ),
    )
