"""What the head's logits mean as a policy over sets of tokens, with closed-form gradients.

An action is a row of token indices padded with -1: (texts, group, width) int64. What is small,
(texts, vocabulary), is computed in float64 whatever the logits' dtype; the dense work per text
does not depend on the size of the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from personality_common.errors import ToolkitError

PADDING: Final = -1


class PolicyAt(Protocol):
    """A policy at given logits (N, V): what its formulas share is computed once.

    D is the number of decisions: draws, or switches.
    """

    def log_prob(self, actions: Tensor) -> Tensor:
        """(N, G, D) float64 log-probability of each decision; 0 where there is none."""
        ...

    def set_log_prob(self, actions: Tensor) -> Tensor:
        """(N, G) float64: the sum over the decisions."""
        ...

    def gradient(self, actions: Tensor, weights: Tensor) -> Tensor:
        """(N, V) float64: gradient at the logits of the sum of weights (N, G, D) times `log_prob`.

        Weights of decisions that there are not count for nothing.
        """
        ...

    def set_gradient(self, actions: Tensor, weights: Tensor) -> Tensor:
        """(N, V) float64: gradient at the logits of the sum of weights (N, G) times `set_log_prob`."""
        ...

    def entropy(self) -> Tensor:
        """(N,) nats per decision."""
        ...

    def entropy_gradient(self, weights: Tensor) -> Tensor:
        """(N, V): gradient of the sum of weights (N,) times `entropy`."""
        ...

    def kl(self, other: Any) -> Tensor:
        """(N,) nats per decision, KL(this policy || the same policy at other logits)."""
        ...

    def kl_of_shifted(self, shift: Tensor) -> Tensor:
        """(N,) nats per decision, KL(the same policy at these logits + shift (V,) float64 || this policy)."""
        ...

    def kl_gradient(self, other: Any, weights: Tensor) -> Tensor:
        """(N, V): gradient, at the logits of this one, of the sum of weights (N,) times `kl`."""
        ...


class Policy(Protocol):
    """What the logits mean."""

    @property
    def temperature(self) -> float: ...

    def sample(self, logits: Tensor, group: int, generator: torch.Generator) -> Tensor:
        """(N, V) logits to (N, group, width) actions."""
        ...

    def decisions(self, actions: Tensor, vocabulary: int) -> Tensor:
        """(N, G, D) bool: which decisions exist."""
        ...

    def lengths(self, actions: Tensor, vocabulary: int) -> Tensor:
        """(N, G) int64: how many there are."""
        ...

    def at(self, logits: Tensor) -> PolicyAt:
        """The policy at logits (N, V), a `PolicyAt`."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Independent switches: token v is on with probability sigmoid(logit / temperature).

    log pi(A) = sum over v in A of logsigmoid(z_v) + sum over the others of logsigmoid(-z_v), z = logits / T.
    A decision is one switch, on or off, so D is the size of the vocabulary for every candidate.
    The order of an action's tokens means nothing. An action may be empty.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def sample(self, logits: Tensor, group: int, generator: torch.Generator) -> Tensor:
        """The width is that of the largest set drawn, at least 1; tokens in vocabulary order."""
        p = probability_of_on(logits.double() / self.temperature)
        uniform = torch.rand((p.shape[0], group, p.shape[1]), generator=generator, dtype=torch.float64)
        on = uniform < p[:, None]
        width = max(1, int(on.sum(-1).max()))
        # A stable descending sort of the switches puts those that are on first, in order.
        actions = torch.sort(on.to(torch.int8), dim=-1, descending=True, stable=True).indices[..., :width]
        return torch.where(on.gather(-1, actions), actions, PADDING)

    def decisions(self, actions: Tensor, vocabulary: int) -> Tensor:
        return torch.ones((), dtype=torch.bool).expand(*actions.shape[:2], vocabulary)

    def lengths(self, actions: Tensor, vocabulary: int) -> Tensor:
        return torch.full(actions.shape[:2], vocabulary)

    def at(self, logits: Tensor) -> BernoulliAt:
        return BernoulliAt(logits, self.temperature)


class BernoulliAt:
    """See `PolicyAt`."""

    def __init__(self, logits: Tensor, temperature: float) -> None:
        self.temperature = temperature
        self.z = logits.double() / temperature if temperature != 1 else logits.double()

    @cached_property
    def _rest(self) -> Tensor:
        """(N, V) 1 + e^-|z|: with p or 1 - p, whichever is larger, its product is 1."""
        return one_plus(self.z)

    @cached_property
    def _log_rest(self) -> Tensor:
        return self._rest.log()

    @cached_property
    def on(self) -> Tensor:
        """(N, V) log-probability of on."""
        return self.z.clamp(max=0).sub_(self._log_rest)

    @cached_property
    def off(self) -> Tensor:
        """(N, V) log-probability of off."""
        return self.z.clamp(min=0).add_(self._log_rest).neg_()

    @cached_property
    def p(self) -> Tensor:
        """(N, V) probability of on."""
        return self.z.clamp(max=0).exp_().div_(self._rest)

    def switches(self, actions: Tensor) -> Tensor:
        """(N, G, V) bool: which tokens are on."""
        vocabulary = self.z.shape[1]
        padded = torch.where(actions >= 0, actions, vocabulary)
        on = torch.zeros((*actions.shape[:2], vocabulary + 1), dtype=torch.bool)
        return on.scatter_(-1, padded, True)[..., :vocabulary]

    def log_prob(self, actions: Tensor) -> Tensor:
        return torch.where(self.switches(actions), self.on[:, None], self.off[:, None])

    def set_log_prob(self, actions: Tensor) -> Tensor:
        """logsigmoid(z) - logsigmoid(-z) = z: all switches off, plus z for those that are on."""
        return self.off.sum(-1, keepdim=True) + gather(self.z, actions).masked_fill_(actions < 0, 0.0).sum(-1)

    def gradient(self, actions: Tensor, weights: Tensor) -> Tensor:
        """d/dz_v = sum over candidates of weight * (1[v on] - sigmoid(z_v))."""
        weights = weights.double()
        taken = torch.where(actions >= 0, weights.gather(-1, actions.clamp(min=0)), 0.0)
        gradient = self.p * weights.sum(1).neg_()
        gradient.scatter_add_(1, actions.clamp(min=0).flatten(1), taken.flatten(1))
        return gradient if self.temperature == 1 else gradient / self.temperature

    def set_gradient(self, actions: Tensor, weights: Tensor) -> Tensor:
        weights = weights.double()
        gradient = self.p * weights.sum(1, keepdim=True).neg_()
        taken = weights[..., None].masked_fill(actions < 0, 0.0)
        gradient.scatter_add_(1, actions.clamp(min=0).flatten(1), taken.flatten(1))
        return gradient if self.temperature == 1 else gradient / self.temperature

    def off_and_on(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability of off, (N, V), and of off and of on for the tokens of the actions, (N, G, K)."""
        here = gather(self.off, actions)
        return self.off, here, here + gather(self.z, actions)

    def entropy(self) -> Tensor:
        return -(self.p * self.on + (1 - self.p) * self.off).mean(-1)

    def entropy_gradient(self, weights: Tensor) -> Tensor:
        """dH/dz = -z p (1 - p) for one switch."""
        slope = self.z * self.p * (1 - self.p) / (self.temperature * self.z.shape[1])
        return -weights.double()[:, None] * slope

    def kl(self, other: BernoulliAt) -> Tensor:
        return (self.p * (self.on - other.on) + (1 - self.p) * (self.off - other.off)).mean(-1)

    def kl_of_shifted(self, shift: Tensor) -> Tensor:
        return BernoulliAt(self.z * self.temperature + shift, self.temperature).kl(self)

    def kl_gradient(self, other: BernoulliAt, weights: Tensor) -> Tensor:
        """dKL/dz = (z - y) p (1 - p) for one switch."""
        slope = (self.z - other.z) * self.p * (1 - self.p) / (self.temperature * self.z.shape[1])
        return weights.double()[:, None] * slope


def one_plus(z: Tensor) -> Tensor:
    """1 + e^-|z|, from 1 to 2."""
    return z.abs().neg_().exp_().add_(1)


def probability_of_on(z: Tensor) -> Tensor:
    """The logistic function, e^min(z, 0) / (1 + e^-|z|).

    `torch.sigmoid` rounds an element differently where it falls into the last few of a tensor, so a row's
    bits would depend on the rows beside it.
    """
    return z.clamp(max=0).exp_().div_(one_plus(z))


def check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ToolkitError(f"temperature must be positive and finite, got {temperature}")


def gather(values: Tensor, actions: Tensor) -> Tensor:
    """(N, V) values at (N, G, K) actions; whatever is at token 0 where there is padding."""
    return values.gather(1, actions.clamp(min=0).flatten(1)).view(actions.shape)
