"""What `pt simulate` and `pt grpo` are asked to do, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from device_sim.runtimes.config import RUNTIME_CHOICES, RuntimeChoice
from device_sim.users.nights import NightsConfig
from device_sim.users.users import parse_user
from grpo.config import GRPOConfig
from grpo.events import EVENT_REWARDS, EventRewards, parse_rewards
from grpo.learners import LEARNERS, LearnerName, default_learner
from personality_common.errors import ConfigError, ToolkitError

RouteChoice: TypeAlias = Literal["patch", "update-task", "state", "all"]
Objective: TypeAlias = Literal["learner", "one-hot"]
LearnerChoice: TypeAlias = Literal["posterior", "grpo", "all"]
ROUTE_CHOICES: Final = get_args(RouteChoice)
OBJECTIVES: Final = get_args(Objective)
_WITHOUT_GRPO: Final = ("policy", "k", "temperature", "reward_weights", "kl_budget", "overlap_budget")
"""Settings that mean something with one-hot targets."""
HELD_OUT_FRACTION: Final = 0.3
"""Share of the texts that is never trained on; a text's own hash decides (`pretrain.data.split`)."""
HELD_OUT_TEXTS: Final = 300
"""At most so many of them are measured on: enough for a confidence interval, few enough to embed at once."""


@dataclass(frozen=True)
class SimulateConfig:
    """One run of `pt simulate`.

    Attributes:
        bundle: what `pt export` wrote.
        feedback: replay a feedback file, in nights of --interactions each.
        rewards: what events of the feedback file are worth: event=reward,…
        user: simulate a user: profile, thumbs, drifting, contrary, random, or module:function.
        data: conversations whose texts the user reacts to.
        run: the bundle's run: embed texts with its encoder, not with the bundle's.
        allow_remote_encoder: send texts away for a run that was not made here and whose encoder is hosted.
        route: how the update reaches the package.
        runtime: what computes latents.
        objective: what moves the head: a learner, or one-hot targets under MSE, as apps train it today.
        learner: posterior: all feedback in closed form; grpo: gradient steps; all: posterior, and grpo beside
            it without a package. Left out, posterior, or grpo if a setting is of gradients.
        repeats: lives, with seeds from --seed on; the first is lived on the package.
        out: keep heads, packages, feedback and figures there.
        keep_texts: texts in the feedback log, in place of their SHA-256.
        nights: how the days are spent.
        grpo: the update; for one-hot targets, the policy that draws, and the budgets it is judged by.
    """

    bundle: Path
    feedback: Path | None = None
    rewards: str | None = None
    user: str | None = None
    data: str | None = None
    run: Path | None = None
    allow_remote_encoder: bool = False
    route: RouteChoice = "patch"
    runtime: RuntimeChoice = "mil"
    objective: Objective = "learner"
    learner: LearnerChoice | None = None
    repeats: int = 1
    out: Path | None = None
    keep_texts: bool = False
    nights: NightsConfig = field(default_factory=NightsConfig)
    grpo: GRPOConfig = field(default_factory=GRPOConfig)

    def __post_init__(self) -> None:
        if (self.feedback is None) == (self.user is None):
            raise ConfigError("give one of --feedback FILE and --user SIMULATOR")
        if self.user is not None:
            try:
                parse_user(self.user)
            except ToolkitError as error:
                raise ConfigError(f"--user {error}") from None
            if self.data is None:
                raise ConfigError("--user needs --data TEXTS: conversations whose texts the user reacts to")
        if self.feedback is not None and self.data is not None:
            raise ConfigError("--data is for --user; a feedback file has its own texts")
        if self.rewards is not None and self.feedback is None:
            raise ConfigError("--rewards is for events of a --feedback file")
        _check_rewards(self.rewards)
        if self.route not in ROUTE_CHOICES:
            raise ConfigError(f"--route must be one of {', '.join(ROUTE_CHOICES)}, got {self.route!r}")
        if self.runtime not in RUNTIME_CHOICES:
            raise ConfigError(f"--runtime must be one of {', '.join(RUNTIME_CHOICES)}, got {self.runtime!r}")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"--objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if self.learner is not None and self.learner not in get_args(LearnerChoice):
            raise ConfigError(
                f"--learner must be one of {', '.join(get_args(LearnerChoice))}, got {self.learner!r}"
            )
        if self.repeats < 1:
            raise ConfigError(f"--repeats must be 1 or more, got {self.repeats}")
        if self.user is None and (self.repeats > 1 or self.learner == "all"):
            raise ConfigError(
                "--repeats and --learner all need --user: only a simulated life can be lived twice"
            )
        if self.objective == "one-hot" and (self.learner is not None or self.repeats > 1):
            raise ConfigError("--learner, --repeats: of learners, which --objective one-hot is not")
        if self.objective == "one-hot":
            kept = {name: getattr(self.grpo, name) for name in _WITHOUT_GRPO}
            unused = [n for n, v in vars(replace(GRPOConfig(), **kept)).items() if getattr(self.grpo, n) != v]
            if unused:
                options = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
                raise ConfigError(f"{options}: of GRPO's update, which --objective one-hot does not make")

    @property
    def event_rewards(self) -> EventRewards:
        return _event_rewards(self.rewards)

    @property
    def learners(self) -> tuple[LearnerName, ...]:
        """The one that the phone lives with, and those beside it."""
        if self.learner == "all":
            return LEARNERS
        if self.learner is not None:
            return (self.learner,)
        return (default_learner(self.grpo),)


@dataclass(frozen=True)
class TuneConfig:
    """One run of `pt grpo`: a single update.

    Attributes:
        model: a run, or a bundle.
        feedback: a feedback file.
        rewards: what its events are worth: event=reward,…
        out: the new head, safetensors.
        run: the bundle's run: embed texts with its encoder, not with the bundle's.
        allow_remote_encoder: send texts away for a run that was not made here and whose encoder is hosted.
        learner: gradient steps, or all feedback in closed form.
        start: an earlier head of pt grpo, from which gradient steps go on; left out, the one that shipped.
        overwrite: replace what is at --out.
        grpo: the update.
    """

    model: Path
    feedback: Path
    out: Path
    run: Path | None = None
    allow_remote_encoder: bool = False
    learner: LearnerName = "grpo"
    start: Path | None = None
    overwrite: bool = False
    rewards: str | None = None
    grpo: GRPOConfig = field(default_factory=GRPOConfig)

    def __post_init__(self) -> None:
        _check_rewards(self.rewards)
        if self.start is not None and self.learner != "grpo":
            raise ConfigError("--start is for --learner grpo: the posterior is made afresh from all feedback")
        if self.out.exists() and not self.overwrite:
            raise ConfigError(f"--out must be a new file, {self.out} is there; --overwrite replaces it")

    @property
    def event_rewards(self) -> EventRewards:
        return _event_rewards(self.rewards)


def _event_rewards(spec: str | None) -> EventRewards:
    return EVENT_REWARDS if spec is None else parse_rewards(spec)


def _check_rewards(spec: str | None) -> None:
    try:
        _event_rewards(spec)
    except ToolkitError as error:
        raise ConfigError(f"--rewards {error}") from None
