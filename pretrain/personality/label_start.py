"""Where training on labels starts: at the labels' ranking for texts like labelled ones, else the teacher's.

With t_j the teacher's probability of token j, P_j the labels', and g how likely a text is of the labelled
kind, the mean of the targets is `t_j + g W (P_j - t_j)`. Its logarithm is near

    log t_j + relu(a_j - relu(-d)),    a_j = log W + log P_j - log t_j,    d = log(g / (1 - g))

`start_at_teacher` has log t_j in place, and two fits find a_j and d, linear in the latent. A hidden unit of
the first layer becomes the inner relu, and one of the last layer for each label the outer; GELUs are relus
with round corners. Gradients of all weights find that from few labels, too, but lose the teacher's ranking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.personality.model import EncoderLayer
from pretrain.personality.student import Student

RIDGE: Final = 200.0
"""Penalty on half a squared weight of the labels' fit, beside a loss summed over texts: of 30 to 3,000,
100 to 300 gave the best held-out AUC."""
GATE_RIDGE: Final = 3.0
SHARPNESS: Final = 3.0
"""GELU(k x) / k is within .06 of relu(x)."""
TRACE: Final = 0.02
"""Length that the inner relu adds to a latent of length 1: little, since a norm follows."""
FIT_STEPS: Final = 80


@torch.no_grad()
def start_at_labels(
    student: Student, base: Tensor, shares: Tensor, weight: float, other: Tensor, tokens: Tensor
) -> None:
    """Set hidden units of a student that starts at the teacher.

    Args:
        student: after `start_at_teacher`; on the CPU.
        base: (N, d) float32 base embeddings of labelled training texts.
        shares: (N, K) float32; rows sum to 1, over a text's labels.
        weight: W, above 0.
        other: (M, d) float32, of training texts without labels; with none the gate is left out.
        tokens: (K,) the labels' positions in the vocabulary.
    """
    student.eval()
    model = student.model
    first, last = model.encoder
    assert isinstance(first, EncoderLayer)
    assert isinstance(last, EncoderLayer)

    def latent(x: Tensor) -> Tensor:
        projected: Tensor = model.input_projection(x if student.projector is None else student.projector(x))
        return projected

    # A direction that neither the input nor the head uses carries relu(-d) to the last layer.
    # (Of a 1536-d space all are used, and it is the least.)
    used = torch.cat([model.projection.weight, latent(torch.cat([base, other]))])
    free = torch.linalg.eigh(used.T @ used).eigenvectors[:, 0]
    gate_scale = torch.zeros(())
    if len(other):
        features = first.ffn_norm(latent(torch.cat([base, other])))
        labelled = torch.arange(len(features)) < len(base)
        direction, offset = _fit(
            features, 1, GATE_RIDGE, lambda d: F.binary_cross_entropy_with_logits(d[:, 0], labelled.float())
        )
        first.ffn_in.weight[0] = -SHARPNESS * direction[:, 0]
        first.ffn_in.bias[0] = -SHARPNESS * offset[0]
        first.ffn_out.weight[:, 0] = TRACE / SHARPNESS * free
        shut = F.gelu(first.ffn_in(features)[:, 0]) / SHARPNESS
        seen = last.ffn_norm(first(latent(torch.cat([base, other])))) @ free
        # How much of relu(-d) stands along `free`, after the norm.
        gate_scale = (shut @ shut) / (seen @ shut)

    logits = torch.log_softmax(student(base), dim=-1)[:, tokens]
    # Without the gate's direction, along which labelled texts hardly differ.
    features = last.ffn_norm(first(latent(base)))
    features = features - torch.outer(features @ free, free)
    rows, offsets = _fit(features, len(tokens), RIDGE, lambda a: F.cross_entropy(logits + a, shares))
    partition = torch.logsumexp(logits + features @ rows + offsets, dim=-1).mean()
    offsets = offsets - partition + torch.log(torch.tensor(weight))
    units = slice(0, len(tokens))
    last.ffn_in.weight[units] = SHARPNESS * (rows - gate_scale * free[:, None]).T
    last.ffn_in.bias[units] = SHARPNESS * offsets
    last.ffn_out.weight[:, units] = torch.linalg.pinv(model.projection.weight)[:, tokens] / SHARPNESS


def _fit(
    features: Tensor, outputs: int, ridge: float, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """(512, K) weights and (K,) offsets, by L-BFGS, of the linear function of (N, 512) features."""
    weight = torch.zeros(features.shape[1], outputs, requires_grad=True)
    offset = torch.zeros(outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, offset], max_iter=FIT_STEPS, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        total = loss(features @ weight + offset) + ridge / (2 * len(features)) * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(step)  # type: ignore[no-untyped-call]
    return weight.detach(), offset.detach()
