"""A night's candidates as the losses read them: weights, and log-probabilities that stay all night."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from grpo.advantages import Advantages
from grpo.policies import BernoulliAt, Policy, PolicyAt
from grpo.surrogates import Loss, LossOptions

Tables: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """What stays the same over a night's inner steps; made by `make_batch`.

    Nights of several devices are one below the other: `rows` of all of them, the same number each. What a
    row gets never depends on the other devices' rows, not even in its last bit.

    Attributes:
        devices: how many.
        actions: (rows, G, K).
        exists: (rows, G, D) bool: which decisions there are.
        advantages: (rows, G).
        active: (rows, G) bool.
        lengths: (rows, G) float64, number of decisions of each candidate, at least 1.
        weights: (rows, G) float64, of one unit of the surrogate: a decision, or a set.
        up, down: (rows, G) float64, weights times the advantages that are positive, and that are negative.
        decision_weights: (rows, G) float64, of one decision; what k1, k2, k3 are summed with, groups without
            spread included.
        rows: (rows,) float64, weights of the texts with feedback; sum 1 per device.
        start, shipped: the policy of the head at the start of the night, and of the one that shipped.
        old: (rows, G) log-probabilities of sets under the policy that drew them.
        old_decisions, reference: (rows, G, D) log-probabilities under the policy that drew and under the
            shipped head; None if nothing reads them.
        per_set: whether ratios are of sets.
        old_tables, shipped_tables: `BernoulliAt.off_and_on` of both; None unless `switch_loss` applies.
    """

    devices: int
    actions: Tensor
    exists: Tensor
    advantages: Tensor
    active: Tensor
    lengths: Tensor
    weights: Tensor
    up: Tensor
    down: Tensor
    decision_weights: Tensor
    rows: Tensor
    start: PolicyAt
    shipped: PolicyAt
    old: Tensor
    old_decisions: Tensor | None
    reference: Tensor | None
    per_set: bool
    old_tables: Tables | None
    shipped_tables: Tables | None

    @cached_property
    def row_up(self) -> Tensor:
        """(rows, 1): of all candidates."""
        return self.up.sum(-1, keepdim=True)

    @cached_property
    def row_down(self) -> Tensor:
        return self.down.sum(-1, keepdim=True)

    @cached_property
    def drawn_up(self) -> Tensor:
        """(rows, G, K): of each token of the actions, 0 at the padding."""
        return self.up[..., None] * (self.actions >= 0)

    @cached_property
    def drawn_down(self) -> Tensor:
        return self.down[..., None] * (self.actions >= 0)

    def total(self, values: Tensor) -> Tensor:
        """(rows, …) to (devices,): each device's sum."""
        return per_device(values, self.devices)


def per_device(values: Tensor, devices: int) -> Tensor:
    """(rows, …) to (devices,) sums, along a dimension whose length does not depend on their number."""
    return values.reshape(devices, -1).sum(-1)


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
    devices: int = 1,
) -> Batch:
    """Everything that the inner steps have in common.

    Feedback has one log-probability for a set. What it says beyond the head at the start is spread evenly
    over the decisions, so that the ratio of the set is exact, and that of a decision right on average.

    Args:
        start, shipped: (rows, V) logits of the head at the start of the night, and of the one that shipped.
        actions: (rows, G, K).
        behaviour: (rows, G) log-probabilities under the policy that drew; NaN: the head at the start.
        groups: (rows,) number of the group that a row belongs to; devices share none.
        longest: number of decisions of a full candidate: k, or V.
        devices: whose nights are one below the other. Either all of them have feedback from other heads
            than theirs at the start, or none has: see `draws_agree`.
    """
    vocabulary = start.shape[1]
    lengths = policy.lengths(actions, vocabulary).double()
    per_set = options.ratio == "set" or options.loss == "gspo"
    # Groups without spread push nowhere, and are held to the shipped head all the same.
    heard = advantages.feedback
    counted = advantages.active if options.loss == "dapo" else heard
    of_decisions = normalizers(lengths, heard, groups, longest, options.loss, devices)
    units = (torch.ones_like(lengths), 1) if per_set else (lengths, longest)
    weights = normalizers(units[0], counted, groups, units[1], options.loss, devices)
    at_start, at_shipped = policy.at(start), policy.at(shipped)
    drawn = at_start.set_log_prob(actions)
    known = torch.full_like(drawn, torch.nan) if behaviour is None else behaviour.double()
    shift = torch.where(known.isnan(), 0.0, known - drawn)
    lengths = lengths.clamp(min=1)
    texts = heard.any(-1).double().view(devices, -1)
    # Tables need one old policy for all candidates of a text.
    tables = not per_set and not bool((shift != 0).any())
    old_decisions = reference = old_tables = shipped_tables = None
    if isinstance(at_start, BernoulliAt) and isinstance(at_shipped, BernoulliAt) and tables:
        old_tables = at_start.off_and_on(actions)
        shipped_tables = at_shipped.off_and_on(actions)
    else:
        if not per_set:
            old_decisions = at_start.log_prob(actions) + (shift / lengths)[..., None]
        if options.estimates_kl:
            reference = at_shipped.log_prob(actions)
    return Batch(
        devices=devices,
        actions=actions,
        exists=policy.decisions(actions, vocabulary),
        advantages=advantages.values,
        active=advantages.active,
        lengths=lengths,
        weights=weights,
        up=weights * advantages.values.clamp(min=0),
        down=weights * advantages.values.clamp(max=0),
        decision_weights=of_decisions,
        rows=(texts / texts.sum(-1, keepdim=True).clamp(min=1)).view(-1),
        start=at_start,
        shipped=at_shipped,
        old=drawn + shift,
        old_decisions=old_decisions,
        reference=reference,
        per_set=per_set,
        old_tables=old_tables,
        shipped_tables=shipped_tables,
    )


def normalizers(
    lengths: Tensor, counted: Tensor, groups: Tensor, longest: int, loss: Loss, devices: int
) -> Tensor:
    """(rows, G) float64: the weight of one decision of each candidate; 0 for one that does not count.

    With |a| the number of decisions of a candidate (1 if the ratio is per set), and sums over a device:

    - grpo, gspo: 1 / (groups * candidates of the group * |a|)
    - dapo, bnpo, cispo: 1 / (sum of |a| over the candidates)
    - dr-grpo: 1 / (texts * group size * longest |a|): constants, whatever the feedback

    Args:
        lengths: (rows, G) decisions of each candidate.
        counted: (rows, G) bool: those with feedback; under dapo, in the surrogate, those of groups with
            spread only, as its dynamic sampling has no others.
        groups: (rows,) number of the group that a row belongs to.
        longest: the policy's number of decisions.
    """
    counts = counted.double()
    size = len(counts) // devices  # of a device, in rows

    def of_rows(totals: Tensor) -> Tensor:
        return totals.clamp(min=1).repeat_interleave(size)[:, None]

    if loss == "dr-grpo":
        return counts / (counts.numel() // devices * longest)
    if loss in ("dapo", "bnpo", "cispo"):
        return counts / of_rows(per_device(counts * lengths, devices))
    number, group = torch.unique(groups, return_inverse=True)
    count = torch.zeros(len(number), dtype=torch.float64).index_add_(0, group, counts.sum(-1))
    device = torch.zeros(len(number), dtype=torch.int64)
    device[group] = torch.arange(len(counts)) // size
    total = torch.zeros(devices, dtype=torch.float64).index_add_(0, device, (count > 0).double())
    return counts / (of_rows(total) * count.clamp(min=1)[group][:, None] * lengths.clamp(min=1))
