"""How far heads may be from the one that shipped, and how much of an update that leaves."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.head import overlap_of, top_tokens
from grpo.policies import Policy, PolicyAt

SEARCH_STEPS: Final = 10
"""Halvings when an update is scaled back: to a thousandth of the update."""


class Spent(NamedTuple):
    """What heads have used up on their night's texts, (D,) each."""

    kl: Tensor
    overlap: Tensor
    within: Tensor  # bool


class Budgets:
    """The budgets of D devices, on the logits (D, N, V) of the head that shipped."""

    def __init__(
        self,
        policy: Policy,
        shipped: Tensor,
        config: GRPOConfig,
        at: PolicyAt | None = None,
        top: Tensor | None = None,
    ) -> None:
        """`at` and `top` are the policy and the top tokens there, where they are known."""
        self.policy, self.shipped, self.config = policy, shipped, config
        self._at_shipped = at or policy.at(shipped.flatten(0, 1))
        self._top = top_tokens(shipped) if top is None else top

    def of(self, devices: Tensor) -> Budgets:
        """Those of some devices (M,)."""
        if len(devices) == len(self.shipped):
            return self
        return Budgets(self.policy, self.shipped[devices], self.config, top=self._top[devices])

    def spent(self, logits: Tensor, at: PolicyAt | None = None) -> Spent:
        """Of heads with logits (D, N, V), float32 or float64; `at` is the policy there, where it is known."""
        kl, overlap = self._kl(logits, at), self._overlap(logits)
        return Spent(kl, overlap, ~self._beyond_kl(kl) & ~self._beyond_overlap(overlap))

    def share(self, start: Tensor, end: Tensor, at_start: Spent, at_end: Spent) -> Tensor:
        """(D,) the share of each update that keeps the budgets.

        An update that ends within the budgets is kept whole, even if it starts outside of them. One that
        neither starts nor ends within them is dropped. Otherwise the share is found by halving, to a
        thousandth, on the budgets that all of the update would break. Logits are linear in the share, so no
        head is made for it; whoever makes one should measure it.

        Args:
            start, end: (D, N, V) float64, logits before and after the update, and what they spend.
        """
        share = at_end.within.double()
        rest = (~at_end.within & at_start.within).nonzero()[:, 0]
        if len(rest):
            budgets, origin, way = self.of(rest), start[rest], end[rest] - start[rest]
            by_kl, by_overlap = self._beyond_kl(at_end.kl)[rest], self._beyond_overlap(at_end.overlap)[rest]
            low, high = torch.zeros(len(rest), dtype=torch.float64), share.new_ones(len(rest))
            for _ in range(SEARCH_STEPS):
                middle = (low + high) / 2
                logits = origin + way * middle[:, None, None]
                beyond = by_overlap & self._beyond_overlap(budgets._overlap(logits))
                if bool(by_kl.any()):
                    beyond |= by_kl & self._beyond_kl(budgets._kl(logits))
                low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
            share[rest] = low
        return share

    def _kl(self, logits: Tensor, at: PolicyAt | None = None) -> Tensor:
        kl = (at or self.policy.at(logits.flatten(0, 1))).kl(self._at_shipped)
        return kl.view(logits.shape[:2]).mean(-1)

    def _overlap(self, logits: Tensor) -> Tensor:
        return overlap_of(top_tokens(logits), self._top).mean(-1)

    def _beyond_kl(self, kl: Tensor) -> Tensor:
        """NaN is beyond any budget."""
        return ~(kl <= (torch.inf if self.config.kl_budget is None else self.config.kl_budget))

    def _beyond_overlap(self, overlap: Tensor) -> Tensor:
        return overlap < (0.0 if self.config.overlap_budget is None else self.config.overlap_budget)
