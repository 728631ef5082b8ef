"""What moves a head over nights: two learners behind one gate, held to the same budgets on the same texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

from torch import Tensor

from grpo.config import GRPOConfig
from grpo.exact import one_thread
from grpo.gate import GateReading
from grpo.groups import Groups
from grpo.head import Head
from grpo.learner import Learned, make_head, study
from grpo.metrics import night_metrics
from grpo.posterior import Posterior
from grpo.reference import PRECISION, Reference, Spent
from grpo.scoring import combined_reward, score
from grpo.tune import TuneResult, tune_head

LearnerName: TypeAlias = Literal["posterior", "grpo"]
LEARNERS: tuple[LearnerName, ...] = get_args(LearnerName)


class Kept(NamedTuple):
    """What a device keeps from one night to the next.

    head: in use.
    state: that a night starts from, beyond the budgets or not; the shipped one for a learner that starts
        afresh.
    learned: evidence and gate.
    """

    head: Head
    state: Head
    learned: Learned


class Learner(ABC):
    """One night after the other; nothing is drawn, and nothing remembered but what is kept."""

    name: ClassVar[LearnerName]

    def __init__(self, reference: Reference) -> None:
        self.reference, self.config = reference, reference.config

    def start(self) -> Kept:
        """Of a device on its first day."""
        shipped = self.reference.shipped
        topics = self.reference.topics(self.reference.latents[:1]).shape[1]
        return Kept(shipped, shipped, Learned.nothing(len(shipped.bias), topics))

    def night(self, latents: Tensor, groups: Groups, kept: Kept) -> tuple[Kept, TuneResult]:
        """One night of one device.

        Args:
            latents: (N, d) float32, of the texts of `groups`, row by row.

        Raises:
            DataError: shapes, dtypes or tokens that do not fit.
            ToolkitError: an update did nothing, or a head is no longer finite.
        """
        weights = dict(self.config.reward_weights)
        learned, posterior, _ = study(latents, groups, kept.learned, self.reference, weights)
        # Without a gate there is nothing to be sure of.
        may_move = self.config.gate is None or (posterior is not None and posterior.gain > 0)
        kept, result = self._move(latents, groups, kept._replace(learned=learned), posterior, may_move)
        gate = GateReading.of(learned.wealth, self.config.gate)
        if not gate.open:
            result = replace(result, reasons=(*result.reasons, f"gate: {gate}"))
        elif not may_move:
            result = replace(result, reasons=(*result.reasons, "all feedback is as likely without a taste"))
        return kept, replace(result, gate=gate)

    @abstractmethod
    def _move(
        self, latents: Tensor, groups: Groups, kept: Kept, posterior: Posterior | None, may_move: bool
    ) -> tuple[Kept, TuneResult]:
        """`kept.learned` is of tonight, the rest of the night before."""


class PosteriorLearner(Learner):
    """The head is made afresh every night from all feedback, in closed form: see `learner`."""

    name = "posterior"

    def _move(
        self, latents: Tensor, groups: Groups, kept: Kept, posterior: Posterior | None, may_move: bool
    ) -> tuple[Kept, TuneResult]:
        config, shipped = self.config, self.reference.shipped
        head, share, spent = shipped, 1.0, self.reference.nothing
        if posterior is not None and may_move:
            with one_thread():
                made = make_head(posterior, self.reference)
            head, share, spent = made.head, made.share, made.spent
        night = night_metrics(
            latents, groups, combined_reward(groups.rewards, dict(config.reward_weights)),
            score(latents, groups, config)[0], kept.head, shipped, head, config.make_policy(), (), share,
        )  # fmt: skip
        return kept._replace(head=head, state=shipped), TuneResult(head, night, (), (), spent=spent)


class GRPOLearner(Learner):
    """Gradient steps on the training state; in use is shipped + s (state - shipped), with the largest s <= 1
    that keeps the budgets."""

    name = "grpo"

    def _move(
        self, latents: Tensor, groups: Groups, kept: Kept, posterior: Posterior | None, may_move: bool
    ) -> tuple[Kept, TuneResult]:
        free = replace(self.config, kl_budget=None, overlap_budget=None)
        tuned = tune_head(latents, groups, kept.state, self.reference.shipped, free)
        head, share, spent = self.reference.shipped, 1.0, self.reference.nothing
        if may_move:
            with one_thread():
                head, share, spent = scaled(tuned.head, self.reference)
        night = night_metrics(
            latents, groups, combined_reward(groups.rewards, dict(free.reward_weights)),
            score(latents, groups, free)[0], kept.head, self.reference.shipped, head,
            free.make_policy(), tuned.steps, share,
        )  # fmt: skip
        reasons = tuned.reasons
        if may_move and share < 1:
            reasons = (*reasons, f"in use is {share:.3g} of the way to the training state")
        result = TuneResult(head, night, tuned.steps, reasons, spent=spent)
        return kept._replace(head=head, state=tuned.head), result


def scaled(state: Head, reference: Reference) -> tuple[Head, float, Spent]:
    """The furthest head within the budgets on the line from the shipped head to a training state.

    Returns:
        The head, its share of the way, and what it has spent.
    """
    shipped = reference.shipped
    if state is shipped:
        return shipped, 1.0, reference.nothing
    share = reference.longest(state.logits(reference.latents) - reference.logits, 1.0)
    while True:
        if share <= PRECISION:
            return shipped, 0.0, reference.nothing
        head = state
        if share < 1:
            pairs = ((a.double(), b.double()) for a, b in zip(shipped, state, strict=True))
            head = Head(*((a + share * (b - a)).float() for a, b in pairs))
        spent = reference.spent(head.logits(reference.latents))
        # The share was found on logits, and a head is rounded: one at the very edge may be beyond.
        if reference.within(spent):
            return head, share, spent
        share *= 1 - PRECISION


def make_learner(name: LearnerName, reference: Reference) -> Learner:
    """The learner of a name."""
    return {kind.name: kind for kind in (PosteriorLearner, GRPOLearner)}[name](reference)


def default_learner(config: GRPOConfig) -> LearnerName:
    """The one that gains more, unless a setting differs that it has no use for."""
    plain = GRPOConfig()
    asked = any(getattr(config, name) != getattr(plain, name) for name in _OF_GRADIENTS)
    return "grpo" if asked else "posterior"


_OF_GRADIENTS = (
    "loss", "ratio", "clip_low", "clip_high", "delta", "advantage_scale", "deviation_floor",
    "spread_tolerance", "reward_aggregation", "single_candidates", "similarity", "kl_weight", "kl_estimator",
    "entropy_weight", "optimizer", "learning_rate", "momentum", "adam_beta1", "adam_beta2", "adam_eps",
    "gradient_clip", "inner_iterations", "kl_stop",
)  # fmt: skip
