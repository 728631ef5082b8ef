"""Simulated users: what they like is hidden from the head, and known to us.

A user scores tokens for a text; the reward of a set is the mean over its tokens of

    relevance + strength * taste

relevance is the cosine of token and text divided by the standard deviation of that cosine over all tokens
and a reference set of texts; taste is N(0, 1) per token. A head that ignores the text loses, and so does one
that ignores the user. The best that any head can do is the mean score of the text's top 8 tokens (the
oracle); a bias added to a head that ranks by relevance does it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Final, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from device_sim.users.topics import TOPICS, Topics
from grpo.exact import one_thread
from personality_common.contract import TOP_K
from personality_common.errors import DataError, ToolkitError

UserKind: TypeAlias = Literal[
    "profile", "thumbs", "drifting", "contrary", "contextual", "random", "mood", "position", "heavy"
]
NO_SIGNAL: Final = ("random", "mood", "position", "heavy")
"""Negative controls: their rewards say nothing of the sets that they are given for."""
RewardFunction: TypeAlias = Callable[[Tensor, Tensor, int, torch.Generator], Tensor]
"""(base embeddings (N, d), actions (N, G, K), night, generator) -> rewards (N, G); NaN: no feedback."""


@dataclass(frozen=True)
class UserConfig:
    """Which user, and how they are.

    Attributes:
        kind: "profile" rewards every candidate with its score and noise. "thumbs" gives 1 or 0: up if
            the noisy score beats the night's mean over what was shown; only for the first `shown` candidates
            of a text, and of these only a share of `answers`. "drifting" is a profile whose taste is drawn
            afresh on night `drift_night`. "contrary" is a profile with a share of `inverted` rewards mirrored
            at the mean of the text's candidates. "contextual" is a profile whose taste depends on the text:
            linearly on where it lies along the axes in which texts differ most. Four say nothing of what is
            shown: "random" rewards with N(0, 1), "mood" with the same on top of that day's mood, N(0, 1),
            "position" with 1 more for the candidate shown first, "heavy" with one reward in a hundred a
            hundred times as large.
        strength: of taste against relevance.
        noise: standard deviation added to a candidate's reward.
        answers: share of what was shown that gets a thumb.
        shown: candidates of a text that are shown; None: all of them, one after the other.
        drift_night: from 0.
        inverted: share of contrary feedback.
        context: share of a contextual taste's variance that depends on the text.
    """

    kind: UserKind = "profile"
    strength: float = 1.0
    noise: float = 0.3
    answers: float = 0.5
    shown: int | None = None
    drift_night: int = 3
    inverted: float = 0.2
    context: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in get_args(UserKind):
            raise ToolkitError(
                f"a simulated user must be one of {', '.join(get_args(UserKind))}, got {self.kind!r}"
            )
        for name, least, most in (
            ("strength", 0, math.inf), ("noise", 0, math.inf), ("answers", 0, 1), ("shown", 1, math.inf),
            ("drift_night", 0, math.inf), ("inverted", 0, 1), ("context", 0, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and math.isfinite(value)):
                raise ToolkitError(f"{name} of a simulated user must be from {least} to {most}, got {value}")


@dataclass(frozen=True)
class SimulatedUser:
    """A user with a taste. Two with the same arguments are the same user.

    Attributes:
        config: which user.
        tokens: (V, d) embeddings of the tokens, in the space of the texts' base embeddings.
        relevance_deviation: what cosines are divided by; `relevance_deviation` computes it.
        seed: of the taste.
        topics: of the texts; None for a user whose taste does not depend on them.
    """

    config: UserConfig
    tokens: Tensor = field(repr=False)
    relevance_deviation: float
    seed: int
    topics: Topics | None = field(default=None, repr=False)

    def taste(self, night: int) -> Tensor:
        """(V,) N(0, 1), the same every night but for a drifting user."""
        drifted = self.config.kind == "drifting" and night >= self.config.drift_night
        return self._tastes[1 if drifted else 0]

    @cached_property
    def _tastes(self) -> Tensor:
        """(2, V)."""
        # Not the stream that a night with the same seed draws its texts and candidates from.
        generator = torch.Generator().manual_seed(self.seed ^ 0x7A57E)
        return torch.stack([torch.randn(len(self.tokens), generator=generator) for _ in range(2)])

    def relevance(self, texts: Tensor) -> Tensor:
        """(N, d) base embeddings to (N, V)."""
        _require_one_space(texts, self.tokens)
        return _unit(texts) @ self._directions.T / self.relevance_deviation

    def scores(self, texts: Tensor, night: int, relevance: Tensor | None = None) -> Tensor:
        """(N, d) base embeddings to (N, V), without noise; `relevance` is theirs, where it is known."""
        if relevance is None:
            relevance = self.relevance(texts)
        taste = self.taste(night)
        if self.config.kind == "contextual":
            assert self.topics is not None
            share = self.config.context
            of_text = self.topics.of(texts) @ self._of_topics.T
            taste = math.sqrt(1 - share) * taste + math.sqrt(share) * of_text
        return relevance + self.config.strength * taste

    @cached_property
    def _of_topics(self) -> Tensor:
        """(V, T) what tokens are worth more of a text for each topic; N(0, 1 / T), so N(0, 1) for a text."""
        generator = torch.Generator().manual_seed(self.seed ^ 0xC0D7E)
        return torch.randn(len(self.tokens), TOPICS, generator=generator) / math.sqrt(TOPICS)

    @cached_property
    def _directions(self) -> Tensor:
        """(V, d) tokens, of norm 1."""
        return _unit(self.tokens)

    def value(self, texts: Tensor, actions: Tensor, night: int, relevance: Tensor | None = None) -> Tensor:
        """(N, G) mean score of the tokens of each set; NaN for an empty one."""
        scores = self.scores(texts, night, relevance).gather(1, actions.clamp(min=0).flatten(1))
        return torch.where(actions >= 0, scores.view(actions.shape), torch.nan).nanmean(-1)

    def oracle(self, texts: Tensor, night: int, relevance: Tensor | None = None) -> Tensor:
        """(N,) the most that 8 tokens can be worth."""
        return self.scores(texts, night, relevance).topk(TOP_K).values.mean(-1)

    def rewards(self, texts: Tensor, actions: Tensor, night: int, generator: torch.Generator) -> Tensor:
        """(N, G) what the user says to each candidate; NaN where they say nothing."""
        noise = torch.randn(actions.shape[:2], generator=generator)
        kind = self.config.kind
        if kind in NO_SIGNAL:
            empty = (actions < 0).all(-1)
            return torch.where(empty, torch.nan, noise + self._without_signal(noise, night, generator))
        noisy = self.value(texts, actions, night) + self.config.noise * noise
        if kind == "contrary":
            inverted = torch.rand(noise.shape, generator=generator) < self.config.inverted
            return torch.where(inverted, 2 * noisy.nanmean(-1, keepdim=True) - noisy, noisy)
        if kind == "thumbs":
            seen = noisy[:, : self.config.shown]
            thumbs = torch.where(seen.isnan(), torch.nan, (seen > seen.nanmean()).to(seen.dtype))
            answered = torch.rand(seen.shape, generator=generator) < self.config.answers
            rewards = torch.full_like(noisy, torch.nan)
            rewards[:, : self.config.shown] = torch.where(answered, thumbs, torch.nan)
            return rewards
        return noisy

    def _without_signal(self, noise: Tensor, night: int, generator: torch.Generator) -> Tensor:
        """What is added to the noise (N, G)."""
        if self.config.kind == "mood":
            moods = torch.Generator().manual_seed((self.seed ^ 0x300D) + (night << 32))
            return torch.randn((), generator=moods).expand_as(noise)
        if self.config.kind == "heavy":
            rare = torch.rand(noise.shape, generator=generator) < 0.01
            return torch.where(rare, 99 * noise, 0.0)
        added = torch.zeros_like(noise)
        if self.config.kind == "position":
            added[:, 0] = 1.0
        return added


@dataclass(frozen=True)
class FunctionUser:
    """One's own user: `module:function`, a `RewardFunction`.

    Its function is also how a set is valued, so its own noise is in the measurement; there is no oracle.
    """

    name: str
    function: RewardFunction
    seed: int

    def relevance(self, texts: Tensor) -> Tensor | None:
        """What there is of it is in the function."""
        return None

    def value(self, texts: Tensor, actions: Tensor, night: int, relevance: Tensor | None = None) -> Tensor:
        return self.rewards(texts, actions, night, torch.Generator().manual_seed(self.seed))

    def oracle(self, texts: Tensor, night: int, relevance: Tensor | None = None) -> Tensor:
        return torch.full((len(texts),), torch.nan)

    def rewards(self, texts: Tensor, actions: Tensor, night: int, generator: torch.Generator) -> Tensor:
        """Call the function, and refuse what it must not do.

        Raises:
            ToolkitError: the function raised.
            DataError: not a float tensor of shape (N, G), or an infinite reward.
        """
        try:
            rewards: object = self.function(texts, actions, night, generator)
        except Exception as error:
            # The message may quote a text; the traceback is there with --debug.
            raise ToolkitError(
                f"the reward function {self.name} must not raise, got {type(error).__name__} on night {night}"
            ) from error
        shape = tuple(actions.shape[:2])
        if (
            not isinstance(rewards, Tensor)
            or tuple(rewards.shape) != shape
            or not rewards.is_floating_point()
        ):
            got = (
                f"{tuple(rewards.shape)} {rewards.dtype}"
                if isinstance(rewards, Tensor)
                else type(rewards).__name__
            )
            raise DataError(f"the reward function {self.name} must return a float tensor {shape}, got {got}")
        if bool(rewards.isinf().any()):
            raise DataError(f"the reward function {self.name} must return finite numbers or NaN, got inf")
        return rewards


User: TypeAlias = SimulatedUser | FunctionUser

_PARAMETERS: Final = {f.name: f for f in fields(UserConfig) if f.name != "kind"}


def parse_user(text: str) -> UserConfig | RewardFunction:
    """`thumbs`, `thumbs:shown=1,answers=0.3`, or `module:function`.

    Raises:
        ToolkitError: no such user, parameter, module or function.
    """
    name, _, rest = text.partition(":")
    if name in get_args(UserKind):
        values: dict[str, float | int] = {}
        for part in filter(None, rest.split(",")):
            key, _, number = part.partition("=")
            if key not in _PARAMETERS:
                raise ToolkitError(f"{text}: parameters of a user are {', '.join(_PARAMETERS)}, got {key!r}")
            try:
                values[key] = int(number) if key in ("shown", "drift_night") else float(number)
            except ValueError:
                raise ToolkitError(f"{text}: {key} must be a number, got {number!r}") from None
        return UserConfig(kind=name, **values)  # type: ignore[arg-type]  # checked on construction
    if not rest:
        raise ToolkitError(f"a user must be {', '.join(get_args(UserKind))} or module:function, got {text!r}")
    try:
        function = getattr(importlib.import_module(name), rest)
    except (ImportError, AttributeError) as error:
        raise ToolkitError(f"{text}: must name a function that can be imported: {error}") from error
    if not callable(function):
        raise ToolkitError(f"{text}: must name a function, got {type(function).__name__}")
    found: RewardFunction = function
    return found


def make_user(text: str, tokens: Tensor, reference: Tensor, seed: int) -> User:
    """A user from its description; `reference` (M, d) are the texts that relevance is scaled on."""
    parsed = parse_user(text)
    if isinstance(parsed, UserConfig):
        topics = Topics.among(reference) if parsed.kind == "contextual" else None
        return SimulatedUser(parsed, tokens, relevance_deviation(reference, tokens), seed, topics)
    return FunctionUser(text, parsed, seed)


def relevance_deviation(texts: Tensor, tokens: Tensor) -> float:
    """Standard deviation of the cosine of text and token over all pairs; (M, d) texts, (V, d) tokens."""
    with one_thread():
        _require_one_space(texts, tokens)
        deviation = float((_unit(texts) @ _unit(tokens).T).double().std())
    if not deviation > 0:
        raise DataError(f"cosines of texts and tokens must vary, got a deviation of {deviation}")
    return deviation


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _require_one_space(texts: Tensor, tokens: Tensor) -> None:
    if texts.shape[-1] != tokens.shape[-1]:
        raise DataError(
            "texts and tokens must be embedded in one space,"
            f" got {tuple(texts.shape)} and {tuple(tokens.shape)}"
        )
