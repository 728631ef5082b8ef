"""Plackett-Luce: ordered draws without replacement, with the gradient in closed form."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from grpo.policies import check_temperature, gather
from personality_common.contract import TOP_K
from personality_common.errors import ToolkitError

LARGEST_MARGINAL: Final = 4
"""k! orders are enumerated; 4! = 24 is where that stops being cheap."""

_SAFE_REST: Final = 1e-3
"""Share of the mass that must be left undrawn for the difference `total - drawn` to be used.

The difference then loses at most 3 of float64's 16 digits. Candidates that leave less are computed
from the tokens that remain, one by one, in log space.
"""


class _Draws(NamedTuple):
    exponentials: Tensor  # (N, V), of logits / T minus the text's largest
    drawn: Tensor  # (N, G, K) the drawn tokens' exponentials, 0 at the padding
    left: Tensor  # (N, G, K) mass not yet drawn before draw j
    log_left: Tensor  # (N, G, K) its logarithm
    steep: Tensor  # (N, G) bool: the draws leave less than _SAFE_REST


@dataclass(frozen=True)
class PlackettLuce:
    """Ordered draws without replacement from softmax(logits / temperature).

    log pi(a_1..a_k) = sum_j ( z_{a_j} - logsumexp of z over the tokens not yet drawn ), z = logits / T.
    A decision is one draw. Candidates may have fewer or more draws than `k`, which is what `sample` draws.

    Entropy and KL of whole sequences have no closed form. `entropy` and `kl` are those of the first
    draw, softmax(logits / T): exact, without noise, and in nats per draw.

    Source: Plackett 1975; Gumbel-top-k, Kool et al., arXiv:1903.06059.
    """

    k: int = TOP_K
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ToolkitError(f"k must be 1 or more, got {self.k}")
        check_temperature(self.temperature)

    def sample(self, logits: Tensor, group: int, generator: torch.Generator) -> Tensor:
        """Gumbel-top-k: the k largest of z + Gumbel noise, largest first, are the draws in order."""
        scaled = logits.double() / self.temperature
        if self.k > logits.shape[-1]:
            raise ToolkitError(f"k must not exceed the vocabulary: k {self.k}, vocabulary {logits.shape[-1]}")
        uniform = torch.rand(
            (logits.shape[0], group, logits.shape[1]), generator=generator, dtype=torch.float64
        )
        # rand() is in [0, 1), so log1p(-rand()) is finite; it may be 0, a Gumbel of +inf, once in 2^53 draws:
        # still a valid draw.
        gumbel = -torch.log(-torch.log1p(-uniform))
        return torch.topk(scaled[:, None] + gumbel, self.k, dim=-1).indices

    def decisions(self, actions: Tensor, vocabulary: int) -> Tensor:
        return actions >= 0

    def lengths(self, actions: Tensor, vocabulary: int) -> Tensor:
        return (actions >= 0).sum(-1)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        shifted = _shifted(logits, self.temperature)
        draws = _draws(shifted, actions)
        return torch.where(actions >= 0, gather(shifted, actions) - draws.log_left, 0.0)

    def set_log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        return self.log_prob(logits, actions).sum(-1)

    def gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        """d/dz_v = sum over draws of weight * (1[v drawn now] - 1[v not drawn before] e_v / left).

        The dense part of a text is e_v times one number; only the drawn entries need a correction,
        which gives back what the later draws took from a token that was already gone.
        """
        shifted = _shifted(logits, self.temperature)
        draws = _draws(shifted, actions)
        weights = torch.where(actions >= 0, weights.double(), 0.0)
        smooth = torch.where(draws.steep[..., None], 0.0, weights)
        rate = smooth / torch.where(draws.steep[..., None], 1.0, draws.left)
        later = rate.flip(-1).cumsum(-1).flip(-1) - rate
        gradient = -draws.exponentials * rate.sum((1, 2))[:, None]
        corrections = weights + draws.drawn * later
        gradient.scatter_add_(1, actions.clamp(min=0).flatten(1), corrections.flatten(1))
        if bool(draws.steep.any()):
            _subtract_steep(gradient, shifted, actions, weights, draws)
        return gradient / self.temperature

    def set_gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        return self.gradient(logits, actions, weights[..., None].expand(actions.shape))

    def marginal_log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """(N, G) log-probability of the *set*: logsumexp over the orders of its k <= 4 tokens.

        Actions must be free of padding.
        """
        orders = _orders(actions)
        log_probs = self.set_log_prob(logits, orders.flatten(1, 2)).view(orders.shape[:3])
        return torch.logsumexp(log_probs, dim=-1)

    def marginal_gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        """(N, V) gradient of the sum of weights (N, G) times `marginal_log_prob`.

        Each order counts with its probability given the set.
        """
        orders = _orders(actions)
        log_probs = self.set_log_prob(logits, orders.flatten(1, 2)).view(orders.shape[:3])
        shares = weights.double()[..., None] * torch.softmax(log_probs, dim=-1)
        return self.set_gradient(logits, orders.flatten(1, 2), shares.flatten(1, 2))

    def entropy(self, logits: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits.double() / self.temperature, -1)
        return -(log_p.exp() * log_p).sum(-1)

    def entropy_gradient(self, logits: Tensor, weights: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits.double() / self.temperature, -1)
        p = log_p.exp()
        entropy = -(p * log_p).sum(-1, keepdim=True)
        return -weights.double()[:, None] * p * (log_p + entropy) / self.temperature

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits.double() / self.temperature, -1)
        log_q = torch.log_softmax(other.double() / self.temperature, -1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def kl_gradient(self, logits: Tensor, other: Tensor, weights: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits.double() / self.temperature, -1)
        gap = log_p - torch.log_softmax(other.double() / self.temperature, -1)
        p = log_p.exp()
        kl = (p * gap).sum(-1, keepdim=True)
        return weights.double()[:, None] * p * (gap - kl) / self.temperature


def _shifted(logits: Tensor, temperature: float) -> Tensor:
    scaled = logits.double() / temperature
    return scaled - scaled.amax(-1, keepdim=True)


def _draws(shifted: Tensor, actions: Tensor) -> _Draws:
    """The mass left before each draw, from `total - drawn` where that is sound.

    The mass before draw j is what is left after all draws plus what draws j..k take: sums of positive
    numbers. Only `total - drawn` can cancel, and where it does, the rest is summed token by token.
    """
    exponentials = shifted.exp()
    total = exponentials.sum(-1)[:, None]
    drawn = torch.where(actions >= 0, gather(exponentials, actions), 0.0)
    rest = total - drawn.sum(-1)
    steep = rest < _SAFE_REST * total
    left = rest[..., None] + drawn.flip(-1).cumsum(-1).flip(-1)
    log_left = torch.where(steep[..., None], 1.0, left).log()
    if bool(steep.any()):
        text, candidate = steep.nonzero(as_tuple=True)
        log_left[text, candidate] = _log_left_steep(shifted[text], actions[text, candidate])
    return _Draws(exponentials, drawn, left, log_left, steep)


def _log_left_steep(shifted: Tensor, actions: Tensor) -> Tensor:
    """(R, V), (R, K) to (R, K), in log space over the tokens that remain: nothing underflows."""
    minus_inf = -float("inf")
    padded = torch.where(actions >= 0, actions, shifted.shape[1])
    remaining = torch.nn.functional.pad(shifted, (0, 1)).scatter(1, padded, minus_inf)[:, :-1]
    taken = torch.where(actions >= 0, shifted.gather(1, actions.clamp(min=0)), minus_inf)
    rest = torch.logsumexp(remaining, -1, keepdim=True)
    backwards = torch.logcumsumexp(torch.cat([rest, taken.flip(-1)], -1), -1)[:, 1:]
    return backwards.flip(-1)


def _subtract_steep(
    gradient: Tensor, shifted: Tensor, actions: Tensor, weights: Tensor, draws: _Draws
) -> None:
    """Subtract weight * softmax over the remaining tokens, draw by draw, for the steep candidates."""
    text, candidate = draws.steep.nonzero(as_tuple=True)
    remaining = shifted[text]
    for j in range(actions.shape[-1]):
        token = actions[text, candidate, j]
        share = torch.exp(remaining - draws.log_left[text, candidate, j][:, None])
        weight = weights[text, candidate, j][:, None]
        # Padding has weight 0, and there share may overflow.
        gradient.index_add_(0, text, torch.where(weight == 0, 0.0, -weight * share))
        rows = (token >= 0).nonzero(as_tuple=True)[0]
        remaining[rows, token[rows]] = -float("inf")


def _orders(actions: Tensor) -> Tensor:
    """(N, G, k) to (N, G, k!, k)."""
    k = actions.shape[-1]
    if k > LARGEST_MARGINAL or bool((actions < 0).any()):
        raise ToolkitError(
            f"the order is marginalised for 1 to {LARGEST_MARGINAL} tokens, got {k} or padding"
        )
    return actions[..., torch.tensor(list(itertools.permutations(range(k))))]
