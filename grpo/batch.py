"""A night's candidates as the losses read them: weights, and log-probabilities that stay all night."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from grpo.advantages import Advantages
from grpo.policies import Bernoulli, Policy
from grpo.surrogates import Loss, LossOptions

Tables: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """What stays the same over a night's inner steps; made by `make_batch`.

    Attributes:
        actions: (N, G, K).
        advantages: (N, G).
        active: (N, G) bool.
        lengths: (N, G) float64, number of decisions of each candidate, at least 1.
        weights: (N, G) float64, of one unit of the surrogate: a decision, or a set.
        decision_weights: (N, G) float64, of one decision; what k1, k2, k3 are summed with.
        rows: (N,) float64, weights of the texts with an active candidate; sum 1.
        old: (N, G) log-probabilities of sets under the policy that drew them.
        old_decisions, reference: (N, G, D) log-probabilities under the policy that drew and under the shipped
            head; None if nothing reads them.
        shipped: (N, V) logits of the shipped head.
        per_set: whether ratios are of sets.
        old_tables, shipped_tables: `Bernoulli.off_and_on` of both; None unless `switch_loss` applies.
    """

    actions: Tensor
    advantages: Tensor
    active: Tensor
    lengths: Tensor
    weights: Tensor
    decision_weights: Tensor
    rows: Tensor
    old: Tensor
    old_decisions: Tensor | None
    reference: Tensor | None
    shipped: Tensor
    per_set: bool
    old_tables: Tables | None
    shipped_tables: Tables | None


def make_batch(
    policy: Policy,
    start: Tensor,
    shipped: Tensor,
    actions: Tensor,
    behaviour: Tensor | None,
    advantages: Advantages,
    groups: Tensor,
    longest: int,
    options: LossOptions,
) -> Batch:
    """Everything that the inner steps have in common.

    Feedback has one log-probability for a set. What it says beyond the head at the start is spread evenly
    over the decisions, so that the ratio of the set is exact, and that of a decision right on average.

    Args:
        start, shipped: (N, V) logits of the head at the start of the night, and of the one that shipped.
        actions: (N, G, K).
        behaviour: (N, G) log-probabilities under the policy that drew; NaN: the head at the start.
        groups: (N,) number of the group that a row belongs to.
        longest: number of decisions of a full candidate: k, or V.
    """
    lengths = policy.lengths(actions, start.shape[1]).double()
    per_set = options.ratio == "set" or options.loss == "gspo"
    of_decisions = normalizers(lengths, advantages, groups, longest, options.loss)
    of_sets = normalizers(torch.ones_like(lengths), advantages, groups, 1, options.loss)
    at_start = policy.set_log_prob(start, actions)
    known = torch.full_like(at_start, torch.nan) if behaviour is None else behaviour.double()
    shift = torch.where(known.isnan(), 0.0, known - at_start)
    lengths = lengths.clamp(min=1)
    rows = advantages.active.any(-1).double()
    # Tables need one old policy for all candidates of a text.
    tables = not per_set and not bool((shift != 0).any())
    old_decisions = reference = old_tables = shipped_tables = None
    if isinstance(policy, Bernoulli) and tables:
        old_tables = policy.off_and_on(start, actions)
        shipped_tables = policy.off_and_on(shipped, actions)
    else:
        if not per_set:
            old_decisions = policy.log_prob(start, actions) + (shift / lengths)[..., None]
        if options.estimates_kl:
            reference = policy.log_prob(shipped, actions)
    return Batch(
        actions=actions,
        advantages=advantages.values,
        active=advantages.active,
        lengths=lengths,
        weights=of_sets if per_set else of_decisions,
        decision_weights=of_decisions,
        rows=rows / rows.sum().clamp(min=1),
        old=at_start + shift,
        old_decisions=old_decisions,
        reference=reference,
        shipped=shipped,
        per_set=per_set,
        old_tables=old_tables,
        shipped_tables=shipped_tables,
    )


def normalizers(lengths: Tensor, advantages: Advantages, groups: Tensor, longest: int, loss: Loss) -> Tensor:
    """(N, G) float64: the weight of one decision of each candidate; 0 where the candidate is not active.

    With |a| the number of decisions of a candidate (1 if the ratio is per set):

    - grpo, gspo: 1 / (kept groups * active candidates of the group * |a|)
    - bnpo: 1 / (sum of |a| over the active candidates)
    - dapo, cispo: 1 / (sum of |a| over all candidates with feedback, groups without spread included)
    - dr-grpo: 1 / (texts * group size * longest |a|): constants, whatever the feedback

    Args:
        lengths: (N, G) decisions of each candidate.
        groups: (N,) number of the group that a row belongs to.
        longest: the policy's number of decisions.
    """
    active = advantages.active.double()
    if loss == "dr-grpo":
        return active / (active.numel() * longest)
    if loss == "bnpo":
        return active / (active * lengths).sum().clamp(min=1)
    if loss in ("dapo", "cispo"):
        return active / (advantages.feedback * lengths).sum().clamp(min=1)
    number, group = torch.unique(groups, return_inverse=True)
    count = torch.zeros(len(number), dtype=torch.float64).index_add_(0, group, active.sum(-1))
    kept = (count > 0).sum().clamp(min=1)
    return active / (kept * count.clamp(min=1)[group][:, None] * lengths.clamp(min=1))
