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
            # Classes first: torch's softmax over the last of two dimensions takes five times as long.
            part = F.cross_entropy(ours.T[None], theirs.T[None])
        elif output.kind == "binary":
            part = F.binary_cross_entropy_with_logits(ours, theirs)
        else:
            part = F.mse_loss(ours, theirs)
        total = total + weights[output.head] * part
    return total


class Gradient:
    """Of `loss` by the outputs, in closed form; outputs lie first here, (42 or 49, n).

    Each loss belongs to the link that decodes its output (softmax, sigmoid, none), so that its gradient is
    the answer less the target. Autograd takes longer for the loss' small operations than for the network.

    Args:
        schema: of the outputs.
        weights: of the heads.
    """

    def __init__(self, schema: Schema, weights: Mapping[str, float]) -> None:
        self.places = [
            (output.kind, schema.places[output.key]) for output in schema.of_kind("class", "binary")
        ]
        self.scale = torch.zeros(schema.size, 1)
        for output in schema.of_kind("class", "binary", "real"):
            over = {"class": 1.0, "binary": 1 / output.size, "real": 2 / output.size}[output.kind]
            self.scale[schema.places[output.key]] = weights[output.head] * over

    def at(self, flat: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
        """(42 or 49, n), like both arguments; a target's classes must sum to 1."""
        found = flat.clone() if out is None else out.copy_(flat)
        for kind, place in self.places:
            if kind == "class":
                torch.softmax(flat[place], 0, out=found[place])
            else:
                torch.sigmoid(flat[place], out=found[place])
        return found.sub_(target).mul_(self.scale / flat.shape[1])
