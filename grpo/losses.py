"""Losses over candidates and their gradients at the logits, in closed form.

Words. A *decision* is what sequences call a token: one draw of Plackett-Luce, one switch of Bernoulli.
A *set* is the whole candidate: its log-probability is the sum over its decisions. `l` is a
log-probability under the head being trained, `l_old` under the policy that drew the candidate,
`l_ref` under the head that shipped, `r = exp(l - l_old)` the importance ratio, `A` the advantage.

Every loss is a sum over candidates of weight * f(l), so its gradient at the logits is the policy's
gradient of a weighted sum of log-probabilities, with weights weight * f'(l).
"""

from __future__ import annotations

import torch
from torch import Tensor

from grpo.batch import Batch
from grpo.policies import Bernoulli, Policy
from grpo.surrogates import LossOptions, LossResult, kl_estimate, surrogate
from grpo.switches import switch_loss


def loss_and_gradient(policy: Policy, logits: Tensor, batch: Batch, options: LossOptions) -> LossResult:
    """The loss of a batch, and its gradient at the logits (N, V) of the head being trained.

        surrogate + kl_weight * KL(policy || shipped) - entropy_weight * entropy

    gspo is the surrogate with the ratio of a set, s = exp((l - l_old) / |a|), normalized by its length
    (arXiv:2507.18071); it does not read `options.ratio`. The estimators k1, k2, k3 are summed with the
    weights of decisions, whatever the ratio; `exact` and the entropy are means over the rows with an
    active candidate, in nats per decision.
    """
    if isinstance(policy, Bernoulli) and batch.old_tables is not None:
        result = switch_loss(policy, logits, batch, options)
    elif batch.per_set:
        result = _set_loss(policy, logits, batch, options)
    else:
        result = _decision_loss(policy, logits, batch, options, with_surrogate=True)
    value, gradient = result.value, result.gradient
    if batch.per_set and options.estimates_kl:
        kl = _decision_loss(policy, logits, batch, options, with_surrogate=False)
        value, gradient = value + kl.value, gradient + kl.gradient
    if options.kl_weight != 0 and options.kl_estimator == "exact":
        value = value + options.kl_weight * (batch.rows * policy.kl(logits, batch.shipped)).sum()
        gradient = gradient + policy.kl_gradient(logits, batch.shipped, options.kl_weight * batch.rows)
    if options.entropy_weight != 0:
        value = value - options.entropy_weight * (batch.rows * policy.entropy(logits)).sum()
        gradient = gradient + policy.entropy_gradient(logits, -options.entropy_weight * batch.rows)
    return LossResult(value, gradient, result.clip_low, result.clip_high)


def _set_loss(policy: Policy, logits: Tensor, batch: Batch, options: LossOptions) -> LossResult:
    new, old, weights = policy.set_log_prob(logits, batch.actions), batch.old, batch.weights
    if options.loss == "gspo":
        new, old = new / batch.lengths, old / batch.lengths
    terms = surrogate(new, old, batch.advantages, options)
    slopes = weights * terms.slope
    if options.loss == "gspo":
        slopes = slopes / batch.lengths
    gradient = policy.set_gradient(logits, batch.actions, slopes)
    count = max(1, int(batch.active.sum()))
    low, high = (int((clipped & batch.active).sum()) / count for clipped in (terms.low, terms.high))
    return LossResult((weights * terms.value).sum(), gradient, low, high)


def _decision_loss(
    policy: Policy, logits: Tensor, batch: Batch, options: LossOptions, *, with_surrogate: bool
) -> LossResult:
    exists = policy.decisions(batch.actions, logits.shape[1])
    log_prob = policy.log_prob(logits, batch.actions)
    values, slopes, low, high = torch.zeros_like(log_prob), torch.zeros_like(log_prob), 0.0, 0.0
    if with_surrogate:
        assert batch.old_decisions is not None
        terms = surrogate(log_prob, batch.old_decisions, batch.advantages[..., None], options)
        values, slopes = batch.weights[..., None] * terms.value, batch.weights[..., None] * terms.slope
        counted = batch.active[..., None] & exists
        count = max(1, int(counted.sum()))
        low, high = (int((clipped & counted).sum()) / count for clipped in (terms.low, terms.high))
    if batch.reference is not None:
        kl, slope = kl_estimate(log_prob, batch.reference, options.kl_estimator)
        weights = options.kl_weight * batch.decision_weights[..., None]
        values, slopes = values + weights * kl, slopes + weights * slope
    zero = torch.zeros((), dtype=torch.float64)
    gradient = policy.gradient(logits, batch.actions, torch.where(exists, slopes, zero))
    return LossResult(torch.where(exists, values, zero).sum(), gradient, low, high)
