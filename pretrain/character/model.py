"""The networks: 453 features -> four heads of raw outputs."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from pretrain.character.schema import FEATURES, HEADS, Schema

WIDTHS: Final = (64, 64)
LIMIT: Final = 8.0
"""Standardised inputs are clamped there: in units of the training data's deviation."""

SEED_WIDTHS: Final = (384, 256, 256)
SEED_HEAD_WIDTH: Final = 64


class Standardize(nn.Module):
    """Inputs in units of their deviation over the training data, clamped.

    An input that never varied there is always 0: of what it would do, nothing was learned.
    """

    def __init__(self) -> None:
        super().__init__()
        # Parameters, so that exporters find them as they find all others; training leaves them alone.
        self.mean = nn.Parameter(torch.zeros(FEATURES), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(FEATURES), requires_grad=False)

    def fit(self, features: Tensor) -> None:
        """Take mean and deviation of (n, 453)."""
        deviation = features.double().std(0, correction=0)
        self.mean.copy_(features.double().mean(0))
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation, 0.0))

    def forward(self, features: Tensor) -> Tensor:
        return ((features - self.mean) * self.scale).clamp(-LIMIT, LIMIT)


class SkipModel(nn.Module):
    """Two layers, and a linear skip from the standardised input to all heads.

    Most of what a head must know is nearly linear in the input, which a deep trunk has to squeeze through.
    """

    def __init__(self, schema: Schema, dropout: float) -> None:
        super().__init__()
        self.sizes = [place.stop - place.start for place in schema.heads.values()]
        self.standardize = Standardize()
        self.first = nn.Linear(FEATURES, WIDTHS[0])
        self.second = nn.Linear(WIDTHS[0], WIDTHS[1])
        self.dropout = nn.Dropout(dropout)
        # All heads in one product: four small ones take three times as long.
        self.heads = nn.Linear(WIDTHS[1], schema.size)
        self.skip = nn.Linear(FEATURES, schema.size, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """(n, 453) -> (n, size of the head) for each head, in the order of HEADS."""
        return torch.split(self.flat(self.standardize(features)), self.sizes, dim=1)

    def flat(self, standard: Tensor) -> Tensor:
        """Standardised features -> all heads in one, (n, 42 or 49)."""
        hidden = self.dropout(self.first(standard).relu())
        hidden = self.dropout(self.second(hidden).relu())
        heads: Tensor = self.heads(hidden) + self.skip(standard)
        return heads

    def matrices(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights that read the input, and all others."""
        return [self.first.weight, self.skip.weight], [self.second.weight, self.heads.weight]


class SeedModel(nn.Module):
    """The engine's first network: a trunk of three layers, heads of two."""

    def __init__(self, schema: Schema, dropout: float) -> None:
        super().__init__()
        self.standardize = nn.Identity()
        sizes = (FEATURES, *SEED_WIDTHS)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.ModuleDict({head: nn.Linear(SEED_WIDTHS[-1], SEED_HEAD_WIDTH) for head in HEADS})
        self.heads = nn.ModuleDict(
            {
                head: nn.Linear(SEED_HEAD_WIDTH, place.stop - place.start)
                for head, place in schema.heads.items()
            }
        )

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """As `SkipModel.forward`."""
        for layer in self.trunk:
            features = self.dropout(layer(features).relu())
        return tuple(self.heads[head](self.hidden[head](features).relu()) for head in HEADS)

    def flat(self, features: Tensor) -> Tensor:
        """As `SkipModel.flat`: this network takes features as they are."""
        return torch.cat(self(features), 1)

    def matrices(self) -> tuple[list[Tensor], list[Tensor]]:
        """As `SkipModel.matrices`."""
        weights: list[Tensor] = [parameter for parameter in self.parameters() if parameter.ndim > 1]
        return weights[:1], weights[1:]


def build_model(name: str, schema: Schema, dropout: float) -> SkipModel | SeedModel:
    """A network with random weights, on the CPU."""
    return SkipModel(schema, dropout) if name == "skip" else SeedModel(schema, dropout)


def trainable(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
