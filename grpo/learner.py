"""The posterior learner: the head is made afresh every night, from the head that shipped and all feedback.

A night's feedback becomes sums that add up (`evidence`); they give the posterior of the user's taste
(`posterior`), and a direction in which the head moves as far as the budgets allow (`reference`). Nothing
moves before the gate is open (`gate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from torch import Tensor

from grpo.evidence import Evidence, Heard, evidence_of, hear
from grpo.exact import one_thread
from grpo.gate import Wealth, bet
from grpo.groups import Groups
from grpo.head import Head
from grpo.posterior import (
    WIDTHS,
    Normal,
    Posterior,
    Trial,
    at_most,
    conclude,
    learnable,
    likeliest,
    moments_of,
    normal_equations,
    relevance,
)
from grpo.reference import PRECISION, Reference, Spent

CUT: Final = 0.5
"""Tastes weaker than this share of their root mean square are not followed."""
FURTHEST: Final = 10.0
"""Standard deviations of the shipped logits that a taste may weigh, where relevance counts for little."""
CHANGED: Final = math.log(1000)
"""Nats by which a taste that changed must be likelier than one that did not."""
GROWN: Final = 1.2
"""Times that evidence must have grown before the prior is chosen anew, which takes more factorizations."""


class Prior(NamedTuple):
    """What was likeliest when it was last asked.

    width: of the taste; 0 asks again every night.
    topical: whether the taste depends on the text.
    contrasts: of the evidence there was then.
    """

    width: float = 0.0
    topical: bool = False
    contrasts: int = 0

    def due(self, contrasts: int) -> bool:
        return self.width == 0 or contrasts >= GROWN * self.contrasts


class Learned(NamedTuple):
    """What a device knows after a night: all that the next one needs.

    before, since: evidence of the nights since the taste last changed; `since` are those that may have seen
        another change.
    log_likelihood: of `before`; None if it is not known yet.
    wealth: of the gate.
    prior: of the taste.
    """

    before: Evidence
    since: Evidence
    log_likelihood: float | None
    wealth: Wealth
    prior: Prior = Prior()

    @property
    def total(self) -> Evidence:
        return self.before.plus(self.since)

    @classmethod
    def nothing(cls, vocabulary: int, topics: int, likenesses: int) -> Learned:
        none = Evidence.none(vocabulary, topics, likenesses)
        return cls(none, none, None, Wealth())


class Made(NamedTuple):
    """A head, as `make_head` makes it.

    head: the shipped head's very tensors if it stays.
    share: of the step that would have been worth it, what the budgets left.
    spent: of the budgets, on the reference.
    """

    head: Head
    share: float
    spent: Spent


def study(
    latents: Tensor,
    groups: Groups,
    learned: Learned,
    reference: Reference,
    weights: Mapping[str, float],
    shipped: Tensor | None = None,
) -> tuple[Learned, Posterior | None]:
    """Add a night's feedback to what is known.

    Args:
        latents: (N, d) float32, of the texts of `groups`, row by row.
        weights: of reward functions; 1 for those not named.
        shipped: (N, V) logits of the head that shipped, where they are known.

    Returns:
        What is known; and the posterior, None while the gate is closed and without anything to learn from.
    """
    enough = reference.config.gate
    with one_thread():
        heard = hear(groups, reference.shipped.logits(latents) if shipped is None else shipped, weights)
        topics, likeness = reference.described(latents)
        wealth = learned.wealth
        if not wealth.reached(enough):
            wealth = bet(wealth, heard, learned.total)
        learned = learned._replace(wealth=wealth)
        tonight = evidence_of(heard, topics.shape[1], likeness)
        if not wealth.reached(enough) or not learnable(total := learned.total.plus(tonight)):
            return Learned(learned.total.plus(tonight), tonight.none_like(), None, wealth), None
        fit = _split(learned, tonight, total)
        posterior, learned = _fit_topics(fit, heard, topics)
        return learned, posterior


class _Fit(NamedTuple):
    """learned: with tonight; normal, trials: of the nights since the taste last changed."""

    learned: Learned
    normal: Normal
    trials: tuple[Trial, ...]


def _split(learned: Learned, tonight: Evidence, total: Evidence) -> _Fit:
    """Add a night, and decide since when the taste has been what it is.

    Two tastes, one of the nights `before` and one of those `since`, are held against a single one of all.
    Where one is as likely, the nights since are no suspects any more (Page's test, Biometrika 1954); where
    two are likelier by `CHANGED`, the nights before are forgotten.
    """
    since = learned.since.plus(tonight)
    none = total.none_like()
    widths = WIDTHS if learned.prior.due(total.contrasts) else (learned.prior.width,)
    normal = normal_equations(total)
    trials = likeliest(normal, widths)
    one = trials[0].log_likelihood
    together = _Fit(learned._replace(before=total, since=none, log_likelihood=one), normal, trials)
    if learned.log_likelihood is None:
        return together
    apart = _Fit(learned._replace(since=since), normal, trials)
    if not learnable(since):
        return apart
    normal_since = normal_equations(since)
    # Mostly two are not likelier, and to know that they need not be found.
    if learned.log_likelihood + at_most(normal_since, widths) <= one:
        return together
    trials_since = likeliest(normal_since, widths)
    two = learned.log_likelihood + trials_since[0].log_likelihood
    if two - one > CHANGED:
        alone = learned._replace(
            before=since, since=none, log_likelihood=trials_since[0].log_likelihood, prior=Prior()
        )
        return _Fit(alone, normal_since, trials_since)
    return together if two <= one else apart


def _fit_topics(fit: _Fit, heard: Heard, topics: Tensor) -> tuple[Posterior, Learned]:
    """The posterior, and what is known with tonight's evidence of topics."""
    learned, normal, trials = fit
    moments = moments_of(heard, topics, trials[0].taste, relevance(normal, trials[0].taste))
    if learned.since.contrasts:
        learned = learned._replace(since=learned.since.with_moments(moments))
    else:
        learned = learned._replace(before=learned.before.with_moments(moments))
    due = learned.prior.due(normal.contrasts)
    asked = learned.before.moments + learned.since.moments if due or learned.prior.topical else None
    posterior = conclude(normal, trials, asked)
    if due:
        prior = Prior(posterior.width, posterior.topics is not None, normal.contrasts)
        learned = learned._replace(prior=prior)
    return posterior, learned


def direction(posterior: Posterior) -> Tensor:
    """(V,) float64: the taste, of which whatever is below CUT times its root mean square is left out."""
    size = float(posterior.taste.square().mean().sqrt())
    direction: Tensor = posterior.taste.sign() * (posterior.taste.abs() - CUT * size).clamp(min=0)
    return direction


def longest_step(posterior: Posterior, reference: Reference) -> float:
    """Of the direction, the longest step that is worth its loss of relevance; 0 without a taste.

    After 1 / alpha no token takes the place of one that is expected to be worth more.
    """
    size = float(posterior.taste.square().mean().sqrt())
    if not size > 0:
        return 0.0
    return 1 / max(posterior.relevance, size / (FURTHEST * reference.spread))


def make_head(posterior: Posterior, reference: Reference) -> Made:
    """The head that the user will like best within the budgets, nearly.

    The bias moves along the taste's direction, and the weight along the topics' tastes.
    """
    limit = longest_step(posterior, reference)
    if not limit:
        return Made(reference.shipped, 0.0, reference.nothing)
    strong = direction(posterior)
    if posterior.topics is None:
        step, head, spent = reference.furthest(strong, limit)
        return Made(head, step / limit, spent)
    step = reference.longest(reference.along(strong, posterior.topics), limit)
    while True:
        head = reference.moved(strong * step, posterior.topics * step)
        spent = reference.spent(head)
        # The step was found on logits, and a head is rounded: one at the very edge may be beyond.
        if reference.within(spent) or step == 0:
            return Made(head, step / limit, spent)
        step = step * (1 - PRECISION) if step > limit * PRECISION else 0.0
