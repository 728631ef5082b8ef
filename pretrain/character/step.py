"""What a training step does before its optimizer: outputs and gradients of a batch.

Whatever is of a batch has the batch last, (outputs, n): a softmax over six classes then runs along memory,
and so do biases and their gradients. Features alone lie as they came, an example a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.character.losses import Gradient
from pretrain.character.model import SeedModel, SkipModel
from pretrain.character.schema import FEATURES

WIDE: Final = 456
"""Columns of the features that `SkipStep` keeps: these, a 1, and zeros up to a multiple of eight, at which
products are a seventh faster."""
AT_ONCE: Final = 512
"""Rows that are standardised together, in memory that is warm already."""


class SkipStep(nn.Module):
    """A `SkipModel` while it is trained: all its weights in one vector, and their gradients in closed form.

    What reads the input, the first layer and the skip, is one matrix, and their biases its column for the
    feature that is always 1. Autograd takes half as long again for the same network.

    Args:
        model: where training begins, and where `finish` writes to.
        gradient: of the loss.
    """

    def __init__(self, model: SkipModel, gradient: Gradient) -> None:
        super().__init__()
        # In a tuple, so that its parameters are not this module's.
        self.model = (model,)
        self.gradient = gradient
        self.drop = model.dropout.p
        self.inner = len(model.first.bias)
        second, heads = model.second.weight, model.heads.weight
        self.shapes = [(self.inner + len(heads), WIDE), second.shape, (len(second), 1), heads.shape]
        self.weights = nn.Parameter(torch.zeros(sum(a * b for a, b in self.shapes)))
        self.weights.grad = torch.zeros_like(self.weights)
        self.parts, self.gradients_of_parts = (
            self._parts(self.weights.detach()),
            self._parts(self.weights.grad),
        )
        for own, theirs in self._pairs():
            own.copy_(theirs.detach())

    def finish(self) -> None:
        """Write the weights to the network."""
        with torch.no_grad():
            for own, theirs in self._pairs():
                theirs.copy_(own)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        (model,) = self.model
        read, second, bias, heads = self.parts
        inner, last = self.inner, FEATURES
        return [
            (read[:inner, :last], model.first.weight),
            (read[inner:, :last], model.skip.weight),
            (read[:inner, last], model.first.bias),
            (read[inner:, last], model.heads.bias),
            (second, model.second.weight),
            (bias[:, 0], model.second.bias),
            (heads, model.heads.weight),
        ]

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """Views of what reads the input, the second layer, its bias, and the heads."""
        pieces = torch.split(vector, [a * b for a, b in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def matrices(self) -> tuple[list[Tensor], list[Tensor]]:
        """As `SkipModel.matrices`."""
        read, second, _, heads = self.parts
        return [read[:, :FEATURES]], [second, heads]

    def keep(self, features: Tensor) -> Tensor:
        """(n, 453) features -> (n, WIDE), standardised, as the other methods take them."""
        (model,) = self.model
        wide = torch.empty(len(features), WIDE)
        for rows, part in zip(torch.split(wide, AT_ONCE), torch.split(features, AT_ONCE), strict=True):
            rows[:, :FEATURES] = model.standardize(part)
        wide[:, FEATURES], wide[:, FEATURES + 1 :] = 1, 0
        return wide

    def outputs(self, x: Tensor) -> Tensor:
        """(n, WIDE) -> (size, n), without dropout."""
        return self._forward(x, 0.0)[2]

    def gradients(self, x: Tensor, target: Tensor) -> Tensor:
        """Set the gradient of the loss by the weights; returns the outputs, (size, n).

        Args:
            x: (n, WIDE).
            target: (size, n).
        """
        _, second, _, heads = self.parts
        d_read, d_second, d_bias, d_heads = self.gradients_of_parts
        h1, h2, flat = self._forward(x, self.drop)
        both = torch.empty(len(d_read), len(x))
        outer = self.gradient.at(flat, target, out=both[self.inner :])
        torch.mm(outer, h2.T, out=d_heads)
        # A unit passes a gradient on where it was above 0, which a dropped one is not.
        middle = torch.mm(heads.T, outer).mul_(h2.sign_().div_(1 - self.drop))
        torch.mm(middle, h1.T, out=d_second)
        torch.sum(middle, 1, keepdim=True, out=d_bias)
        torch.mm(second.T, middle, out=both[: self.inner]).mul_(h1.sign_().div_(1 - self.drop))
        torch.mm(both, x, out=d_read)
        return flat

    def _forward(self, x: Tensor, drop: float) -> tuple[Tensor, Tensor, Tensor]:
        """Both hidden layers and all heads, (units, n) each."""
        read, second, bias, heads = self.parts
        both = torch.mm(read, x.T)
        h1 = both[: self.inner].relu_()
        if drop:
            F.dropout(h1, drop, inplace=True)
        h2 = torch.addmm(bias, second, h1).relu_()
        if drop:
            F.dropout(h2, drop, inplace=True)
        return h1, h2, both[self.inner :].addmm_(heads, h2)


class SeedStep(nn.Module):
    """The same of a `SeedModel`, by autograd."""

    def __init__(self, model: SeedModel, gradient: Gradient) -> None:
        super().__init__()
        self.model = model
        self.gradient = gradient

    def finish(self) -> None:
        """Nothing: the network is trained in place."""

    def matrices(self) -> tuple[list[Tensor], list[Tensor]]:
        return self.model.matrices()

    def keep(self, features: Tensor) -> Tensor:
        return features

    def outputs(self, x: Tensor) -> Tensor:
        self.model.eval()
        return self.model.flat(x).T

    def gradients(self, x: Tensor, target: Tensor) -> Tensor:
        parameters = list(self.model.parameters())
        with torch.enable_grad():
            flat = self.model.train().flat(x)
        ascent = self.gradient.at(flat.detach().T, target).T
        for parameter, own in zip(parameters, torch.autograd.grad(flat, parameters, ascent), strict=True):
            parameter.grad = own
        return flat.detach().T


@torch.no_grad()
def shrink(matrices: Sequence[Sequence[Tensor]], amounts: Sequence[float]) -> None:
    """Pull each weight towards zero by an amount, and no further: the proximal step of an L1 penalty.

    Applied to the weights themselves, as AdamW applies its decay (arXiv:1711.05101), and not through the
    gradient, which Adam would scale.

    Args:
        matrices: those that read the input, and all others.
        amounts: for the ones and for the others.
    """
    for weights, amount in zip(matrices, amounts, strict=True):
        for weight in weights if amount else ():
            weight.copy_(F.softshrink(weight, amount))
