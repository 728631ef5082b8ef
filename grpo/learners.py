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
from grpo.metrics import StepMetrics, night_metrics
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


class Moved(NamedTuple):
    """What a night did to the head in use.

    share: of the way that it would have gone, what the budgets left.
    spent: of the budgets, on the reference.
    gate: how it stands.
    learnable: whether there was feedback to learn from.
    reasons: why the update is smaller than was asked for, a line each; empty when it is not.
    steps: metrics of gradient steps.
    """

    share: float
    spent: Spent
    gate: GateReading
    learnable: bool
    reasons: tuple[str, ...] = ()
    steps: tuple[StepMetrics, ...] = ()


class Learner(ABC):
    """One night after the other; nothing is drawn, and nothing remembered but what is kept.

    Attributes:
        reads_behaviour: whether `groups.behaviour` matters: candidates are drawn from the head in use.
    """

    name: ClassVar[LearnerName]
    reads_behaviour: ClassVar[bool]

    def __init__(self, reference: Reference) -> None:
        self.reference, self.config = reference, reference.config

    def start(self) -> Kept:
        """Of a device on its first day."""
        shipped = self.reference.shipped
        return Kept(shipped, shipped, Learned.nothing(len(shipped.bias), *self.reference.describing))

    def night(self, latents: Tensor, groups: Groups, kept: Kept) -> tuple[Kept, TuneResult]:
        """One night of one device, with everything that is worth knowing about it; see `move`."""
        after, moved = self.move(latents, groups, kept)
        reward = combined_reward(groups.rewards, dict(self.config.reward_weights))
        night = night_metrics(
            latents, groups, reward, score(latents, groups, self.config)[0], kept.head,
            self.reference.shipped, after.head, self.config.make_policy(), moved.steps, moved.share,
        )  # fmt: skip
        return after, TuneResult(
            after.head, night, moved.steps, moved.reasons, gate=moved.gate, spent=moved.spent
        )

    def move(
        self, latents: Tensor, groups: Groups, kept: Kept, shipped: Tensor | None = None
    ) -> tuple[Kept, Moved]:
        """One night of one device.

        Args:
            latents: (N, d) float32, of the texts of `groups`, row by row.
            shipped: (N, V) logits of the head that shipped, where they are known.

        Raises:
            DataError: shapes, dtypes or tokens that do not fit.
            ToolkitError: an update did nothing, or a head is no longer finite.
        """
        weights = dict(self.config.reward_weights)
        learned, posterior = study(latents, groups, kept.learned, self.reference, weights, shipped)
        # Without a gate there is nothing to be sure of.
        may_move = self.config.gate is None or (posterior is not None and posterior.gain > 0)
        gate = GateReading.of(learned.wealth, self.config.gate)
        kept, moved = self._move(latents, groups, kept._replace(learned=learned), posterior, may_move, gate)
        if not gate.open:
            moved = moved._replace(reasons=(*moved.reasons, f"gate: {gate}"))
        elif not may_move:
            moved = moved._replace(reasons=(*moved.reasons, "all feedback is as likely without a taste"))
        return kept, moved

    @abstractmethod
    def _move(
        self,
        latents: Tensor,
        groups: Groups,
        kept: Kept,
        posterior: Posterior | None,
        may_move: bool,
        gate: GateReading,
    ) -> tuple[Kept, Moved]:
        """`kept.learned` is of tonight, the rest of the night before."""


class PosteriorLearner(Learner):
    """The head is made afresh every night from all feedback, in closed form: see `learner`."""

    name = "posterior"
    reads_behaviour = False

    def _move(
        self,
        latents: Tensor,
        groups: Groups,
        kept: Kept,
        posterior: Posterior | None,
        may_move: bool,
        gate: GateReading,
    ) -> tuple[Kept, Moved]:
        shipped = self.reference.shipped
        heard = any(bool((~rewards.isnan()).any()) for rewards in groups.rewards.values())
        if posterior is None or not may_move:
            return kept._replace(head=shipped, state=shipped), Moved(1.0, self.reference.nothing, gate, heard)
        with one_thread():
            made = make_head(posterior, self.reference)
        return kept._replace(head=made.head, state=shipped), Moved(made.share, made.spent, gate, heard)


class GRPOLearner(Learner):
    """Gradient steps on the training state; in use is shipped + s (state - shipped), with the largest s <= 1
    that keeps the budgets."""

    name = "grpo"
    reads_behaviour = True

    def _move(
        self,
        latents: Tensor,
        groups: Groups,
        kept: Kept,
        posterior: Posterior | None,
        may_move: bool,
        gate: GateReading,
    ) -> tuple[Kept, Moved]:
        free = replace(self.config, kl_budget=None, overlap_budget=None)
        tuned = tune_head(latents, groups, kept.state, self.reference.shipped, free)
        head, share, spent = self.reference.shipped, 1.0, self.reference.nothing
        if may_move:
            with one_thread():
                head, share, spent = scaled(tuned.head, self.reference)
        reasons = tuned.reasons
        if may_move and share < 1:
            reasons = (*reasons, f"in use is {share:.3g} of the way to the training state")
        learnable = tuned.night.dropped_groups < tuned.night.groups
        moved = Moved(share, spent, gate, learnable, reasons, tuned.steps)
        return kept._replace(head=head, state=tuned.head), moved


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
        spent = reference.spent(head)
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
