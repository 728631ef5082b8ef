"""How far a head has moved from the one that shipped, in what it says and in what the app shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.head import Head, top_overlap
from personality_common.contract import TOP_K
from personality_common.evidence.intervals import mean_interval


@dataclass(frozen=True)
class Drift:
    """Means over texts, with half the width of their 95% intervals (normal, over texts).

    Attributes:
        kl: KL(policy || policy of the shipped head), nats per decision.
        overlap: share of the top 8 in common with the shipped head.
    """

    kl: float
    kl_half: float
    overlap: float
    overlap_half: float


@dataclass(frozen=True)
class TokenShift:
    """A token's share of texts in whose top 8 it is, under the shipped head and now."""

    token: str
    before: float
    after: float


@dataclass(frozen=True)
class Example:
    """A text with its top 8 before and after, the likeliest first."""

    text: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def measure_drift(latents: Tensor, head: Head, shipped: Head, config: GRPOConfig) -> Drift:
    """(N, 512) latents."""
    return drift_of(head.logits(latents), shipped.logits(latents), config)


def drift_of(logits: Tensor, reference: Tensor, config: GRPOConfig) -> Drift:
    """(N, V) logits of a head, and of the one that shipped."""
    policy = config.make_policy()
    kl = policy.at(logits).kl(policy.at(reference))
    overlap = top_overlap(logits, reference)
    return Drift(*mean_interval(kl), *mean_interval(overlap))


def token_shifts(latents: Tensor, head: Head, shipped: Head, tokens: Sequence[str]) -> list[TokenShift]:
    """Every token whose share changed, the most gained first."""
    before, after = (_shares(h.logits(latents)) for h in (shipped, head))
    shifts = [
        TokenShift(token, was, now)
        for token, was, now in zip(tokens, before.tolist(), after.tolist(), strict=True)
        if was != now
    ]
    return sorted(shifts, key=lambda shift: shift.before - shift.after)


def examples(
    texts: Sequence[str], latents: Tensor, head: Head, shipped: Head, tokens: Sequence[str], count: int = 6
) -> list[Example]:
    """The first few texts that are neither a word nor an essay."""
    rows = [i for i, text in enumerate(texts) if 20 <= len(text) <= 140] or list(range(len(texts)))
    rows = rows[:count]
    tops = [h.logits(latents[rows]).topk(TOP_K).indices.tolist() for h in (shipped, head)]
    return [
        Example(texts[row], *(tuple(tokens[i] for i in top[n]) for top in tops)) for n, row in enumerate(rows)
    ]


def _shares(logits: Tensor) -> Tensor:
    top = logits.topk(TOP_K).indices
    return torch.bincount(top.flatten(), minlength=logits.shape[1]).double() / len(logits)
