"""Every combination of options against autograd through a loss written the long way."""

from __future__ import annotations

import itertools
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from grpo.advantages import Advantages, group_advantages
from grpo.batch import make_batch
from grpo.losses import loss_and_gradient
from grpo.plackett_luce import PlackettLuce
from grpo.policies import PADDING, Bernoulli, Policy
from grpo.surrogates import LossOptions, kl_estimate, surrogate

TEXTS, GROUP, WIDTH, VOCABULARY = 4, 4, 3, 9


class Found(NamedTuple):
    value: Tensor
    gradient: Tensor
    clip_low: float
    clip_high: float


class Case:
    """A batch with what makes trouble: no feedback, a group without spread, short candidates, stale ones."""

    def __init__(self, policy: Policy, stale: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.policy = policy
        self.logits, self.shipped = 2 * randn(TEXTS, VOCABULARY), 2 * randn(TEXTS, VOCABULARY)
        self.start = self.logits + 0.6 * randn(TEXTS, VOCABULARY)
        noise = torch.rand(TEXTS, GROUP, VOCABULARY, generator=generator)
        self.actions = noise.argsort(-1)[..., :WIDTH]
        self.actions[0, 1, 2:] = PADDING
        self.actions[3, 0, 1:] = PADDING
        rewards = randn(TEXTS, GROUP)
        rewards[1] = 0.5
        rewards[2, :2] = torch.nan
        self.groups = torch.tensor([0, 1, 2, 2])
        self.advantages = group_advantages(rewards, groups=self.groups)
        self.behaviour: Tensor | None = None
        if stale:
            known = policy.at(self.start).set_log_prob(self.actions) + randn(TEXTS, GROUP)
            self.behaviour = torch.where(
                torch.rand(TEXTS, GROUP, generator=generator) < 0.3, torch.nan, known
            )

    @property
    def old(self) -> Tensor:
        """(N, G, D): of the start, plus each decision's share of what `behaviour` says beyond it."""
        old = log_prob(self, self.start)
        if self.behaviour is None:
            return old
        length = VOCABULARY if isinstance(self.policy, Bernoulli) else (self.actions >= 0).sum(-1)
        share = (self.behaviour - old.sum(-1)) / length
        return old + torch.where(share.isnan(), 0.0, share)[..., None]


def log_prob(case: Case, logits: Tensor) -> Tensor:
    """(N, G, D), dense and differentiable."""
    z = logits / case.policy.temperature
    on = torch.zeros(TEXTS, GROUP, VOCABULARY + 1, dtype=torch.bool)
    if isinstance(case.policy, Bernoulli):
        on = on.scatter(-1, case.actions.where(case.actions >= 0, VOCABULARY), True)[..., :-1]
        return torch.where(on, z[:, None].sigmoid().log(), (1 - z[:, None].sigmoid()).log())
    gone, draws = on[..., :-1], []
    for j in range(WIDTH):
        token = case.actions[..., j]
        masked = z[:, None].expand(TEXTS, GROUP, VOCABULARY).masked_fill(gone, -torch.inf)
        chosen = masked.log_softmax(-1).gather(-1, token.clamp(min=0)[..., None])[..., 0]
        draws.append(torch.where(token >= 0, chosen, 0.0))
        gone = gone | torch.nn.functional.one_hot(token.clamp(min=0), VOCABULARY).bool()
    return torch.stack(draws, -1)


def long_way(case: Case, logits: Tensor, options: LossOptions, old: Tensor) -> Tensor:
    """Candidate by candidate and decision by decision, as the papers write it; differentiable."""
    new, advantages = log_prob(case, logits), case.advantages
    reference = log_prob(case, case.shipped)
    bernoulli = isinstance(case.policy, Bernoulli)
    exists = torch.ones_like(new, dtype=torch.bool) if bernoulli else case.actions >= 0
    longest = VOCABULARY if bernoulli else WIDTH
    per_set = options.ratio == "set" or options.loss == "gspo"
    active = [tuple(i) for i in advantages.active.nonzero().tolist()]
    heard = [tuple(i) for i in advantages.feedback.nonzero().tolist()]
    members = {g: [i for i in heard if int(case.groups[i[0]]) == g] for g in case.groups.tolist()}
    spoken = [g for g, m in members.items() if m]

    def share(
        i: tuple[int, ...], size: dict[tuple[int, ...], int], full: int, *, of_kl: bool = False
    ) -> float:
        if options.loss in ("grpo", "gspo"):
            return 1 / (len(spoken) * len(members[int(case.groups[i[0]])]) * size[i])
        if options.loss == "dapo" and not of_kl:
            return 1 / sum(size[j] for j in active)
        if options.loss in ("dapo", "bnpo", "cispo"):
            return 1 / sum(size[j] for j in heard)
        return 1 / (TEXTS * GROUP * full)

    def clip(ratio: Tensor, a: float, logp: Tensor) -> Tensor:
        if options.loss == "cispo":
            bound = torch.inf if options.clip_high is None else 1 + options.clip_high
            return -ratio.clamp(max=bound).detach() * a * logp
        if options.delta is not None and a < 0:
            ratio = ratio.clamp(max=options.delta)
        low = None if options.clip_low is None else 1 - options.clip_low
        high = None if options.clip_high is None else 1 + options.clip_high
        bounded = ratio if low is None and high is None else ratio.clamp(low, high)
        return -torch.minimum(ratio * a, bounded * a)

    lengths = {i: int(exists[i].sum()) for i in heard}
    total = torch.zeros((), dtype=torch.float64)
    for i in active:
        a = float(advantages.values[i])
        gap = (new[i] - old[i])[exists[i]]
        if options.loss == "gspo":
            total = total + share(i, dict.fromkeys(heard, 1), 1) * clip(gap.mean().exp(), a, gap)
        elif per_set:
            logp = new[i][exists[i]].sum()
            total = total + share(i, dict.fromkeys(heard, 1), 1) * clip(gap.sum().exp(), a, logp)
        else:
            terms = clip(gap.exp(), a, new[i][exists[i]])
            total = total + share(i, lengths, longest) * terms.sum()
    for i in heard:
        if options.kl_weight and options.kl_estimator != "exact":
            d = (new[i] - reference[i])[exists[i]]
            kl = {"k1": d, "k2": d**2 / 2, "k3": (-d).exp() - 1 + d}[options.kl_estimator]
            total = total + options.kl_weight * share(i, lengths, longest, of_kl=True) * kl.sum()
    rows = sorted({i[0] for i in heard})
    z, y = (x[rows] / case.policy.temperature for x in (logits, case.shipped))
    if bernoulli:
        p, q = z.sigmoid(), y.sigmoid()
        exact = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    else:
        exact = (z.softmax(-1) * (z.log_softmax(-1) - y.log_softmax(-1))).sum(-1).mean()
        entropy = -(z.softmax(-1) * z.log_softmax(-1)).sum(-1).mean()
    if options.kl_weight and options.kl_estimator == "exact":
        total = total + options.kl_weight * exact
    return total - options.entropy_weight * entropy


def closed_form(case: Case, logits: Tensor, options: LossOptions) -> Found:
    longest = VOCABULARY if isinstance(case.policy, Bernoulli) else WIDTH
    batch = make_batch(
        case.policy, case.start, case.shipped, case.actions, case.behaviour, case.advantages, case.groups,
        longest, options,
    )  # fmt: skip
    result = loss_and_gradient(case.policy.at(logits), batch, options)
    measured = result.measure()
    assert {tuple(t.shape) for t in measured} == {(1,)}
    return Found(measured.value[0], result.gradient, float(measured.clip_low), float(measured.clip_high))


POLICIES: tuple[Policy, ...] = (PlackettLuce(k=WIDTH, temperature=1.4), Bernoulli(temperature=0.8))
LOSSES = ("grpo", "dr-grpo", "dapo", "bnpo", "cispo", "gspo")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("policy", POLICIES, ids=["plackett-luce", "bernoulli"])
@pytest.mark.parametrize("stale", [False, True])
def test_value_and_gradient_are_those_of_autograd_for_every_combination(
    policy: Policy, loss: str, stale: bool
) -> None:
    """Of the penalties, which are added, each alone and some together."""
    case = Case(policy, stale)
    old = case.old
    penalties = [
        (0.0, "k3", 0.0), (0.0, "k3", 0.05), (0.1, "k1", 0.0), (0.1, "k2", 0.05), (0.1, "k3", 0.0),
        (0.1, "exact", 0.05),
    ]  # fmt: skip
    combinations = itertools.product(("decision", "set"), (None, 0.2), (None, 0.3), (None, 1.5), penalties)
    clipped = 0
    for ratio, low, high, delta, (kl_weight, estimator, entropy) in combinations:
        options = LossOptions(loss, ratio, low, high, delta, kl_weight, estimator, entropy)  # type: ignore[arg-type]
        logits = case.logits.clone().requires_grad_()
        value = long_way(case, logits, options, old)
        (expected,) = torch.autograd.grad(value, logits)
        actual = closed_form(case, case.logits, options)
        assert actual.gradient.dtype == torch.float64
        torch.testing.assert_close(
            actual.gradient, expected, rtol=0, atol=1e-10, msg=partial("{}: {}".format, options)
        )
        torch.testing.assert_close(actual.value, value.detach(), rtol=0, atol=1e-10)
        clipped += (actual.clip_low > 0) + (actual.clip_high > 0)
    assert clipped > 0  # the data reach the clips, or the test would say nothing of them


@pytest.mark.parametrize("loss", ["grpo", "dr-grpo", "gspo"])
@pytest.mark.parametrize("policy", POLICIES, ids=["plackett-luce", "bernoulli"])
def test_gradient_is_that_of_finite_differences(policy: Policy, loss: str) -> None:
    case = Case(policy)
    options = LossOptions(loss, "decision", 0.2, 0.3, 1.5, 0.1, "k3", 0.05)  # type: ignore[arg-type]
    gradient = closed_form(case, case.logits, options).gradient
    step = 1e-5
    for text, token in [(0, 0), (0, 5), (2, 3), (3, 8)]:
        shift = torch.zeros_like(case.logits)
        shift[text, token] = step
        up, down = (closed_form(case, case.logits + s * shift, options).value for s in (1, -1))
        # Central differences: error of step^2 and of rounding / step, both near 1e-10.
        assert float((up - down) / (2 * step)) == pytest.approx(float(gradient[text, token]), abs=1e-8)


def test_first_step_has_value_zero_and_a_gradient() -> None:
    case = Case(POLICIES[0])
    case.start = case.logits
    result = closed_form(case, case.logits, LossOptions("grpo", "set", 0.2, 0.3, None, 0.0, "k3", 0.0))
    assert float(result.value) == pytest.approx(0, abs=1e-15)
    assert float(result.gradient.norm()) > 0.01
    assert result.clip_low == result.clip_high == 0


def test_clip_fractions_count_what_has_no_gradient() -> None:
    case = Case(POLICIES[0])
    # One text, two candidates: the liked one is e^1 times likelier than when drawn, the other e^-1.
    case.actions = torch.tensor([[[0, 1, 2], [3, 4, 5]]])
    case.logits, case.shipped = case.logits[:1], case.shipped[:1]
    case.groups = torch.zeros(1, dtype=torch.int64)
    both = torch.ones(1, 2, dtype=torch.bool)
    case.advantages = Advantages(torch.tensor([[1.0, -1.0]]).double(), both, both, 1, 0)
    case.start = case.logits
    case.behaviour = case.policy.at(case.logits).set_log_prob(case.actions) + torch.tensor([[-3.0, 3.0]])
    result = closed_form(case, case.logits, LossOptions("grpo", "decision", 0.2, 0.3, None, 0.0, "k3", 0.0))
    assert (result.clip_low, result.clip_high) == (0.5, 0.5)
    assert float(result.gradient.abs().max()) == 0


def test_stale_candidates_do_not_overflow() -> None:
    case = Case(POLICIES[0])
    case.behaviour = torch.full((TEXTS, GROUP), -1e4)
    result = closed_form(case, case.logits, LossOptions("grpo", "decision", None, None, None, 0.1, "k3", 0.0))
    assert bool(result.gradient.isfinite().all())


@pytest.mark.parametrize(("estimator", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_kl_estimators_estimate_kl_and_k2_has_its_gradient(estimator: str, unbiased: bool) -> None:
    # Enumerated expectations over one categorical: no sampling error.
    z = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, -0.5, 0.4, 0.6], dtype=torch.float64)
    p, log_p, log_q = z.softmax(0), z.log_softmax(0), y.log_softmax(0)
    kl = (p * (log_p - log_q)).sum()
    estimate = kl_estimate(log_p.detach(), log_q, estimator)  # type: ignore[arg-type]
    value, slope = estimate.value(), estimate.slope
    if unbiased:
        assert float((p * value).detach().sum()) == pytest.approx(float(kl.detach()), abs=1e-12)
    (mean,) = torch.autograd.grad((p.detach() * slope * log_p).sum(), z, retain_graph=True)
    forward = (log_q.exp() * (log_q - log_p)).sum()
    target = {
        "k1": torch.zeros(4, dtype=torch.float64),
        "k2": torch.autograd.grad(kl, z, retain_graph=True)[0],
        "k3": torch.autograd.grad(forward, z)[0],
    }[estimator]
    torch.testing.assert_close(mean, target, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", ["grpo", "cispo"])
def test_tables_count_clipped_switches_as_the_dense_sum_does(loss: str) -> None:
    case = Case(POLICIES[1])
    options = LossOptions(loss, "decision", 0.2, 0.3, 1.5, 0.0, "k3", 0.0)  # type: ignore[arg-type]
    ratio = (log_prob(case, case.logits) - case.old).exp()
    positive = (case.advantages.values > 0)[..., None]
    if loss == "cispo":
        low, high = torch.zeros_like(ratio, dtype=torch.bool), ratio > 1.3
    else:
        low, high = ~positive & (ratio < 0.8), torch.where(positive, ratio > 1.3, ratio > 1.5)
    result = closed_form(case, case.logits, options)
    active = case.advantages.active
    assert result.clip_low == pytest.approx(float(low[active].double().mean()))
    assert result.clip_high == pytest.approx(float(high[active].double().mean()))
    assert result.clip_high > 0


def test_a_ratio_at_the_bound_is_not_clipped_yet() -> None:
    # The first step of a night with clips of 0: every ratio is 1, which is both bounds, and all of them pull.
    advantages = torch.tensor([2.0, -3.0], dtype=torch.float64)
    log_prob = torch.full_like(advantages, -1.5)
    options = LossOptions("grpo", "decision", 0.0, 0.0, 1.0, 0.0, "k3", 0.0)
    terms = surrogate(log_prob, log_prob, advantages.clamp(min=0), advantages.clamp(max=0), options)
    assert terms.slope.tolist() == [-2.0, 3.0]
    assert not any(bool(bound.any()) for bound in terms.clipped())
