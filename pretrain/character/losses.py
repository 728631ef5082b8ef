"""What training minimises, and which way that is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.character.schema import Schema


def loss(flat: Tensor, target: Tensor, schema: Schema, weights: Mapping[str, float]) -> Tensor:
    """Weighted sum over heads of the sum over their outputs: cross-entropy for classes, binary cross-entropy
    for logits, squared error for what is real. Noise and constants have no part in it.

    Args:
        flat: (n, 42 or 49) outputs of all heads.
        target: as `flat`; labels, or their expectation.
        weights: of the heads.
    """
    total = flat.new_zeros(())
    sizes = [output.size for output in schema.outputs]
    parts = zip(schema.outputs, torch.split(flat, sizes, 1), torch.split(target, sizes, 1), strict=True)
    for output, ours, theirs in parts:
        if output.kind in ("noise", "constant"):
            continue
        if output.kind == "class":
            part = F.cross_entropy(ours, theirs)
        elif output.kind == "binary":
            part = F.binary_cross_entropy_with_logits(ours, theirs)
        else:
            part = F.mse_loss(ours, theirs)
        total = total + weights[output.head] * part
    return total


class Gradient:
    """Of `loss` by the outputs, in closed form.

    Each loss belongs to the link that decodes its output (softmax, sigmoid, none), so that its gradient is
    the answer less the target. Autograd takes longer for the loss' small operations than for the network.

    Args:
        schema: of the outputs.
        weights: of the heads.
    """

    def __init__(self, schema: Schema, weights: Mapping[str, float]) -> None:
        self.sizes = [output.size for output in schema.outputs]
        self.kinds = [output.kind for output in schema.outputs]
        self.scale = torch.zeros(schema.size)
        for output in schema.of_kind("class", "binary", "real"):
            over = {"class": 1.0, "binary": 1 / output.size, "real": 2 / output.size}[output.kind]
            self.scale[schema.places[output.key]] = weights[output.head] * over

    def at(self, flat: Tensor, target: Tensor) -> Tensor:
        """(n, 42 or 49), like both arguments; a target's classes must sum to 1."""
        answers = [
            part.softmax(1) if kind == "class" else part.sigmoid() if kind == "binary" else part
            for part, kind in zip(torch.split(flat, self.sizes, 1), self.kinds, strict=True)
        ]
        return torch.cat(answers, 1).sub_(target).mul_(self.scale / len(flat))
