"""What the model learns from: how close each token is to a text, and how well a ranking keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from personality_common.contract import TOP_K

TEMPERATURE: Final = 0.07
"""Divides cosine similarities before the softmax over tokens."""


def soft_targets(base_embedding: Tensor, token_embedding: Tensor) -> Tensor:
    """Row-wise softmax of cosine similarities over TEMPERATURE.

    Args:
        base_embedding: (N, d) float32, L2-normalized.
        token_embedding: (325, d) float32, L2-normalized, in vocabulary order.

    Returns:
        (N, 325) float32; rows sum to 1.
    """
    return torch.softmax(base_embedding @ token_embedding.T / TEMPERATURE, dim=-1)


def bce_floor(targets: Tensor) -> Tensor:
    """The least BCE that any logits reach: that of the targets against themselves.

    Args:
        targets: (N, 325) in [0, 1].

    Returns:
        Scalar, the mean over entries of -(t log t + (1 - t) log(1 - t)), float64.
    """
    t = targets.double()
    entropy: Tensor = -(torch.special.xlogy(t, t) + torch.special.xlogy(1 - t, 1 - t))
    return entropy.mean()


def recall(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """(N,) float32: share of the k highest targets that are among the k highest logits."""
    chosen = logits.topk(k).indices
    wanted = torch.zeros_like(targets, dtype=torch.bool).scatter_(1, targets.topk(k).indices, True)
    return wanted.gather(1, chosen).float().mean(dim=1)


def ndcg(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """(N,) float32: discounted gain of the k highest logits over the best possible.

    The gain of a token is its target, the discount of place i (from 0) is 1 / log2(i + 2).
    Source: Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, with linear gains.
    """
    discount = 1 / torch.log2(torch.arange(k, device=targets.device) + 2.0)
    gained = targets.gather(1, logits.topk(k).indices) @ discount
    best = targets.topk(k).values @ discount
    return gained / best


@dataclass(frozen=True)
class Quality:
    """How a model does on held-out texts; means over texts.

    Attributes:
        loss: BCE, mean over texts and tokens.
        loss_floor: the least that any model reaches on these targets.
        top5_recall: see `recall`.
        top8_recall: the same for the tokens that the app shows.
        ndcg8: see `ndcg`.
    """

    loss: float
    loss_floor: float
    top5_recall: float
    top8_recall: float
    ndcg8: float

    @property
    def gap(self) -> float:
        """Loss above its floor: what is left to learn."""
        return self.loss - self.loss_floor


class QualityMeter:
    """Sums up batches into a Quality, in float64.

    Attributes:
        totals: (6,) the five figures of Quality, each summed over texts, and the number of texts. Those of
            several meters add up.
    """

    def __init__(self) -> None:
        self.totals = torch.zeros(6, dtype=torch.float64)

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """A batch: logits and targets, (N, 325) float32 each."""
        texts = len(targets)
        loss = F.binary_cross_entropy_with_logits(logits.double(), targets.double())
        means = (
            loss,
            bce_floor(targets),
            recall(logits, targets, 5).double().mean(),
            recall(logits, targets, TOP_K).double().mean(),
            ndcg(logits, targets, TOP_K).double().mean(),
            torch.ones((), dtype=torch.float64),
        )
        self.totals += torch.stack([mean.cpu() for mean in means]) * texts

    def result(self) -> Quality:
        """The means over all texts added."""
        return Quality(*(self.totals[:5] / self.totals[5]).tolist())
