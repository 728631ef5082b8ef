"""What training minimises."""

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
