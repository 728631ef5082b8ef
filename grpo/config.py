"""Settings of the update: each default is here and nowhere else; `README.md` beside this explains them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from grpo.advantages import AdvantageScale, RewardAggregation
from grpo.plackett_luce import PlackettLuce
from grpo.policies import Bernoulli, Policy
from grpo.surrogates import KLEstimator, Loss, LossOptions, Ratio
from personality_common.contract import TOP_K
from personality_common.errors import ToolkitError

PolicyName: TypeAlias = Literal["plackett-luce", "bernoulli"]
OptimizerName: TypeAlias = Literal["sgd", "momentum", "adam"]
SingleCandidates: TypeAlias = Literal["baseline", "similar"]


@dataclass(frozen=True)
class GRPOConfig:
    """How feedback moves the head. Names are those of the literature; `grpo/README.md` has the formulas.

    None switches a limit (clips, delta, stop, budgets) off.

    Attributes:
        policy: "plackett-luce" (ordered draws) or "bernoulli" (independent switches).
        k: draws of a Plackett-Luce sample.
        temperature: divides the logits in the policy.
        loss: how ratios, advantages and normalization make a loss.
        ratio: importance ratio per "decision" (draw, switch) or per "set" (their product).
        clip_low, clip_high: the ratio is clipped to [1 - clip_low, 1 + clip_high]; None: not clipped.
        delta: upper bound on the ratio where the advantage is negative; None: no bound.
        advantage_scale: divisor of the advantages; None: what the loss asks for, see `scale`.
        deviation_floor: least divisor, in reward units.
        spread_tolerance: groups whose rewards spread no further have no advantage.
        reward_weights: (name, weight) of reward functions; 1 for those not named.
        reward_aggregation: whether rewards are summed before they are normalized, or after.
        single_candidates: what stands in for the group of an interaction with one candidate.
        similarity: cosine of latents from which two texts are similar.
        kl_weight: weight of the KL to the head that shipped.
        kl_estimator: "exact" (of the first draw, or of the switches: without noise), "k1", "k2" or "k3".
        entropy_weight: weight of the entropy bonus.
        optimizer: its state starts afresh every night.
        learning_rate: step size.
        momentum: of "momentum".
        adam_beta1, adam_beta2, adam_eps: of "adam".
        gradient_clip: largest norm of the gradient over both tensors; None: not clipped.
        inner_iterations: most steps on one night's feedback.
        kl_stop: mean KL to the policy at the start, in nats per decision, beyond which a night stops.
        kl_budget: most mean KL to the head that shipped, in nats per decision.
        overlap_budget: least mean share of the top 8 in common with the head that shipped.
        gate: wealth that the rewards must have won before a head moves: by chance they ever do so in 1 of so
            many lives.
    """

    policy: PolicyName = "plackett-luce"
    k: int = TOP_K
    temperature: float = 1.0
    loss: Loss = "grpo"
    ratio: Ratio = "decision"
    clip_low: float | None = 0.5
    clip_high: float | None = 1.0
    delta: float | None = 4.0
    advantage_scale: AdvantageScale | None = None
    deviation_floor: float = 1e-3
    spread_tolerance: float = 1e-6
    reward_weights: tuple[tuple[str, float], ...] = field(default=())
    reward_aggregation: RewardAggregation = "sum-then-normalize"
    single_candidates: SingleCandidates = "baseline"
    similarity: float = 0.5
    kl_weight: float = 0.1
    kl_estimator: KLEstimator = "exact"
    entropy_weight: float = 0.05
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 30.0
    momentum: float = 0.9
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8
    gradient_clip: float | None = None
    inner_iterations: int = 12
    kl_stop: float | None = 0.3
    kl_budget: float | None = 0.5
    overlap_budget: float | None = 0.7
    gate: float | None = 20.0

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(kind) and (name, value) != ("advantage_scale", None):
                raise ToolkitError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        for name in ("k", "inner_iterations"):
            _require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        for name in _POSITIVE:
            value = getattr(self, name)
            _require(value is None or 0 < value < math.inf, name, "positive and finite", value)
        for name in ("kl_weight", "entropy_weight", "spread_tolerance", "adam_eps"):
            _require(0 <= getattr(self, name) < math.inf, name, "0 or more, and finite", getattr(self, name))
        for name in ("momentum", "adam_beta1", "adam_beta2"):
            _require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        _require(self.clip_low is None or self.clip_low <= 1, "clip_low", "at most 1", self.clip_low)
        _require(
            self.reward_aggregation == "sum-then-normalize" or self.advantage_scale in (None, "group"),
            "advantage_scale", "group with normalize-then-sum, or left out", self.advantage_scale,
        )  # fmt: skip
        _require(-1 <= self.similarity <= 1, "similarity", "a cosine", self.similarity)
        _require(
            self.overlap_budget is None or 0 <= self.overlap_budget <= 1,
            "overlap_budget", "a share in [0, 1]", self.overlap_budget,
        )  # fmt: skip
        _require(self.gate is None or 1 <= self.gate < math.inf, "gate", "1 or more, and finite", self.gate)
        _require(
            self.delta is None or self.delta > 1 + (self.clip_high or 0),
            "delta", "more than 1 + clip_high", self.delta,
        )  # fmt: skip
        names = [name for name, _ in self.reward_weights]
        _require(len(set(names)) == len(names), "reward_weights", "distinct names", names)
        _require(
            all(math.isfinite(w) for _, w in self.reward_weights),
            "reward_weights",
            "finite",
            self.reward_weights,
        )

    def make_policy(self) -> Policy:
        if self.policy == "bernoulli":
            return Bernoulli(self.temperature)
        return PlackettLuce(self.k, self.temperature)

    @property
    def scale(self) -> AdvantageScale:
        """Of the advantages. Dr. GRPO keeps the unit of the rewards; normalize-then-sum divides anyway."""
        if self.advantage_scale is not None:
            return self.advantage_scale
        dr_grpo = self.loss == "dr-grpo" and self.reward_aggregation == "sum-then-normalize"
        return "none" if dr_grpo else "group"

    @property
    def loss_options(self) -> LossOptions:
        return LossOptions(
            self.loss, self.ratio, self.clip_low, self.clip_high, self.delta,
            self.kl_weight, self.kl_estimator, self.entropy_weight,
        )  # fmt: skip


_CHOICES = {
    "policy": PolicyName,
    "loss": Loss,
    "ratio": Ratio,
    "advantage_scale": AdvantageScale,
    "reward_aggregation": RewardAggregation,
    "single_candidates": SingleCandidates,
    "kl_estimator": KLEstimator,
    "optimizer": OptimizerName,
}
_POSITIVE = (
    "temperature", "clip_low", "clip_high", "delta", "deviation_floor", "learning_rate", "gradient_clip",
    "kl_stop", "kl_budget",
)  # fmt: skip


def _require(holds: bool, name: str, invariant: str, value: object) -> None:
    if not holds:
        raise ToolkitError(f"{name} must be {invariant}, got {value!r}")
