"""What the head's logits mean as a policy over sets of tokens, with closed-form gradients.

An action is a row of token indices padded with -1: (texts, group, width) int64. What is small,
(texts, vocabulary), is computed in float64 whatever the logits' dtype; the dense work per text
does not depend on the size of the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from personality_common.errors import ToolkitError

PADDING: Final = -1


class Policy(Protocol):
    """What the losses need of a policy. D is the number of decisions: draws, or switches."""

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

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """(N, G, D) float64 log-probability of each decision; 0 where there is none."""
        ...

    def set_log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """(N, G) float64: the sum over the decisions."""
        ...

    def gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        """(N, V) float64: gradient at the logits of the sum of weights (N, G, D) times `log_prob`."""
        ...

    def set_gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        """(N, V) float64: gradient at the logits of the sum of weights (N, G) times `set_log_prob`."""
        ...

    def entropy(self, logits: Tensor) -> Tensor:
        """(N,) nats per decision."""
        ...

    def entropy_gradient(self, logits: Tensor, weights: Tensor) -> Tensor:
        """(N, V): gradient of the sum of weights (N,) times `entropy`."""
        ...

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        """(N,) nats per decision, KL(policy of `logits` || policy of `other`)."""
        ...

    def kl_gradient(self, logits: Tensor, other: Tensor, weights: Tensor) -> Tensor:
        """(N, V): gradient at `logits` of the sum of weights (N,) times `kl`."""
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
        p = torch.sigmoid(logits.double() / self.temperature)
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

    def switches(self, actions: Tensor, vocabulary: int) -> Tensor:
        """(N, G, V) bool: which tokens are on."""
        padded = torch.where(actions >= 0, actions, vocabulary)
        on = torch.zeros((*actions.shape[:2], vocabulary + 1), dtype=torch.bool)
        return on.scatter_(-1, padded, True)[..., :vocabulary]

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        z = logits.double() / self.temperature
        off = torch.nn.functional.logsigmoid(-z)[:, None]
        on = torch.nn.functional.logsigmoid(z)[:, None]
        return torch.where(self.switches(actions, logits.shape[1]), on, off)

    def set_log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """logsigmoid(z) - logsigmoid(-z) = z: all switches off, plus z for those that are on."""
        z = logits.double() / self.temperature
        off = torch.nn.functional.logsigmoid(-z).sum(-1)
        return off[:, None] + torch.where(actions >= 0, gather(z, actions), 0.0).sum(-1)

    def gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        """d/dz_v = sum over candidates of weight * (1[v on] - sigmoid(z_v))."""
        p = torch.sigmoid(logits.double() / self.temperature)
        weights = weights.double()
        taken = torch.where(actions >= 0, weights.gather(-1, actions.clamp(min=0)), 0.0)
        gradient = -p * weights.sum(1)
        gradient.scatter_add_(1, actions.clamp(min=0).flatten(1), taken.flatten(1))
        return gradient / self.temperature

    def set_gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        p = torch.sigmoid(logits.double() / self.temperature)
        weights = weights.double()
        gradient = -p * weights.sum(1)[:, None]
        taken = torch.where(actions >= 0, weights[..., None], 0.0)
        gradient.scatter_add_(1, actions.clamp(min=0).flatten(1), taken.flatten(1))
        return gradient / self.temperature

    def off_and_on(self, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability of off, (N, V), and of off and of on for the tokens of the actions, (N, G, K)."""
        z = logits.double() / self.temperature
        off = torch.nn.functional.logsigmoid(-z)
        here = gather(off, actions)
        return off, here, here + gather(z, actions)

    def entropy(self, logits: Tensor) -> Tensor:
        z = logits.double() / self.temperature
        p = torch.sigmoid(z)
        on, off = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
        return -(p * on + (1 - p) * off).mean(-1)

    def entropy_gradient(self, logits: Tensor, weights: Tensor) -> Tensor:
        """dH/dz = -z p (1 - p) for one switch."""
        z = logits.double() / self.temperature
        p = torch.sigmoid(z)
        return -weights.double()[:, None] * z * p * (1 - p) / (self.temperature * z.shape[1])

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        z, y = logits.double() / self.temperature, other.double() / self.temperature
        log = torch.nn.functional.logsigmoid
        p = torch.sigmoid(z)
        return (p * (log(z) - log(y)) + (1 - p) * (log(-z) - log(-y))).mean(-1)

    def kl_gradient(self, logits: Tensor, other: Tensor, weights: Tensor) -> Tensor:
        """dKL/dz = (z - y) p (1 - p) for one switch."""
        z, y = logits.double() / self.temperature, other.double() / self.temperature
        p = torch.sigmoid(z)
        return weights.double()[:, None] * (z - y) * p * (1 - p) / (self.temperature * z.shape[1])


def check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ToolkitError(f"temperature must be positive and finite, got {temperature}")


def gather(values: Tensor, actions: Tensor) -> Tensor:
    """(N, V) values at (N, G, K) actions; whatever is at token 0 where there is padding."""
    return values.gather(1, actions.clamp(min=0).flatten(1)).view(actions.shape)
