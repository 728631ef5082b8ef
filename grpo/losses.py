"""Losses over candidates and their gradients at the logits, in closed form.

Words. A *decision* is what sequences call a token: one draw of Plackett-Luce, one switch of Bernoulli.
A *set* is the whole candidate: its log-probability is the sum over its decisions. `l` is a
log-probability under the head being trained, `l_old` under the policy that drew the candidate,
`l_ref` under the head that shipped, `r = exp(l - l_old)` the importance ratio, `A` the advantage.

Every loss is a sum over candidates of weight * f(l), so its gradient at the logits is the policy's
gradient of a weighted sum of log-probabilities, with weights weight * f'(l).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from grpo.batch import Batch
from grpo.policies import BernoulliAt, PolicyAt
from grpo.surrogates import LossMetrics, LossOptions, LossResult, Surrogate, kl_estimate, surrogate
from grpo.switches import switch_loss


def loss_and_gradient(here: PolicyAt, batch: Batch, options: LossOptions) -> LossResult:
    """The gradient of the loss at the logits (rows, V) of the head being trained, and each device's loss.

        surrogate + kl_weight * KL(policy || shipped) - entropy_weight * entropy

    gspo is the surrogate with the ratio of a set, s = exp((l - l_old) / |a|), normalized by its length
    (arXiv:2507.18071); it does not read `options.ratio`. The estimators k1, k2, k3 are summed with the
    weights of decisions, whatever the ratio; `exact` and the entropy are means over the rows with feedback,
    in nats per decision. Groups without spread are in all of them.

    Args:
        here: the policy at the logits of the head being trained.
    """
    if isinstance(here, BernoulliAt) and batch.old_tables is not None:
        result = switch_loss(here, batch, options)
    elif batch.per_set:
        result = _set_loss(here, batch, options)
    else:
        result = _decision_loss(here, batch, options, with_surrogate=True)
    gradient, parts = result.gradient, [result]
    if batch.per_set and options.estimates_kl:
        parts.append(_decision_loss(here, batch, options, with_surrogate=False))
        gradient = gradient + parts[-1].gradient
    exact_kl = options.kl_weight != 0 and options.kl_estimator == "exact"
    if exact_kl:
        gradient = gradient + here.kl_gradient(batch.shipped, options.kl_weight * batch.rows)
    if options.entropy_weight != 0:
        gradient = gradient + here.entropy_gradient(-options.entropy_weight * batch.rows)

    def measure() -> LossMetrics:
        found = [part.measure() for part in parts]
        value = torch.stack([metrics.value for metrics in found]).sum(0)
        if exact_kl:
            value = value + options.kl_weight * batch.total(batch.rows * here.kl(batch.shipped))
        if options.entropy_weight != 0:
            value = value - options.entropy_weight * batch.total(batch.rows * here.entropy())
        return LossMetrics(value, found[0].clip_low, found[0].clip_high)

    return LossResult(gradient, measure)


def _set_loss(here: PolicyAt, batch: Batch, options: LossOptions) -> LossResult:
    new, old = here.set_log_prob(batch.actions), batch.old
    if options.loss == "gspo":
        new, old = new / batch.lengths, old / batch.lengths
    terms = surrogate(new, old, batch.up, batch.down, options)
    slopes = terms.slope / batch.lengths if options.loss == "gspo" else terms.slope

    def measure() -> LossMetrics:
        return LossMetrics(batch.total(terms.value()), *_clip_shares(terms, batch.active, batch))

    return LossResult(here.set_gradient(batch.actions, slopes), measure)


def _decision_loss(here: PolicyAt, batch: Batch, options: LossOptions, *, with_surrogate: bool) -> LossResult:
    log_prob = here.log_prob(batch.actions)
    slopes: list[Tensor] = []
    values: list[Callable[[], Tensor]] = []
    terms = None
    if with_surrogate:
        assert batch.old_decisions is not None
        up, down = batch.up[..., None], batch.down[..., None]
        terms = surrogate(log_prob, batch.old_decisions, up, down, options)
        slopes.append(terms.slope)
        values.append(terms.value)
    if batch.reference is not None:
        kl = kl_estimate(log_prob, batch.reference, options.kl_estimator)
        weights = options.kl_weight * batch.decision_weights[..., None]
        slopes.append(weights * kl.slope)
        values.append(lambda: weights * kl.value())

    def measure() -> LossMetrics:
        total = sum((value() for value in values), torch.zeros_like(log_prob))
        value = batch.total(torch.where(batch.exists, total, 0.0))
        if terms is None:
            return LossMetrics(value, torch.zeros_like(value), torch.zeros_like(value))
        return LossMetrics(value, *_clip_shares(terms, batch.active[..., None] & batch.exists, batch))

    slope = slopes[0] if len(slopes) == 1 else slopes[0] + slopes[1]
    return LossResult(here.gradient(batch.actions, slope), measure)


def _clip_shares(terms: Surrogate, counted: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    count = batch.total(counted).double().clamp(min=1)
    clipped = terms.clipped()
    return batch.total(clipped.low & counted) / count, batch.total(clipped.high & counted) / count
