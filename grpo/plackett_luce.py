"""Plackett-Luce: ordered draws without replacement, with the gradient in closed form."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from grpo.head import top_tokens
from grpo.policies import check_temperature
from personality_common.contract import TOP_K
from personality_common.errors import ToolkitError

LARGEST_MARGINAL: Final = 4
"""k! orders are enumerated; 4! = 24 is where that stops being cheap."""

_SAFE_REST: Final = 1e-3
"""Share of the mass that must be left undrawn for the difference `total - drawn` to be used.

The difference then loses at most 3 of float64's 16 digits. Candidates that leave less are computed
from the tokens that remain, one by one, in log space.
"""


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
        """Draws with replacement, of which those of a token that was drawn before are passed over.

        Twice as many as needed are made; a candidate that has fewer than k tokens then gets the rest by
        Gumbel-top-k from the tokens that it has not.
        """
        vocabulary = logits.shape[-1]
        if self.k > vocabulary:
            raise ToolkitError(f"k must not exceed the vocabulary: k {self.k}, vocabulary {vocabulary}")
        scaled, tries = _scaled(logits, self.temperature), 2 * self.k
        until = (scaled - scaled.amax(-1, keepdim=True)).exp_().cumsum(-1)
        uniform = torch.rand((len(logits), group * tries), generator=generator, dtype=torch.float64)
        # As u < 1, u * total < total, rounded or not: tokens without a mass are never found.
        drawn = torch.searchsorted(until, uniform.mul_(until[:, -1:]), right=True).view(-1, tries)
        found = _first_time(drawn, vocabulary).cumsum(-1)
        draws = torch.arange(self.k)
        at = torch.searchsorted(found, (draws + 1).expand(len(drawn), -1).contiguous())
        actions = drawn.gather(1, at.clamp_(max=tries - 1))
        few = (found[:, -1] < self.k).nonzero()[:, 0]
        if len(few):
            left = scaled[few // group].scatter(1, drawn[few], -torch.inf)
            rest = top_tokens(left.add_(_gumbel(left.shape, generator)), self.k)
            later = draws - found[few, -1:]
            actions[few] = torch.where(later < 0, actions[few], rest.gather(1, later.clamp(min=0)))
        return actions.view(len(logits), group, self.k)

    def decisions(self, actions: Tensor, vocabulary: int) -> Tensor:
        return actions >= 0

    def lengths(self, actions: Tensor, vocabulary: int) -> Tensor:
        return (actions >= 0).sum(-1)

    def at(self, logits: Tensor) -> PlackettLuceAt:
        return PlackettLuceAt(logits, self.temperature)

    def marginal_log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """(N, G) log-probability of the *set*: logsumexp over the orders of its k <= 4 tokens.

        Actions must be free of padding.
        """
        orders = _orders(actions)
        log_probs = self.at(logits).set_log_prob(orders.flatten(1, 2)).view(orders.shape[:3])
        return torch.logsumexp(log_probs, dim=-1)

    def marginal_gradient(self, logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
        """(N, V) gradient of the sum of weights (N, G) times `marginal_log_prob`.

        Each order counts with its probability given the set.
        """
        orders = _orders(actions)
        here = self.at(logits)
        log_probs = here.set_log_prob(orders.flatten(1, 2)).view(orders.shape[:3])
        shares = weights.double()[..., None] * torch.softmax(log_probs, dim=-1)
        return here.set_gradient(orders.flatten(1, 2), shares.flatten(1, 2))


class _Draws(NamedTuple):
    actions: Tensor  # (N, G, K)
    missing: Tensor | None  # (N, G, K) bool: padding; None if there is none
    tokens: Tensor  # (N, G * K) actions, with token 0 for padding
    drawn: Tensor  # (N, G, K) the drawn tokens' exponentials, 0 at the padding
    left: Tensor  # (N, G, K) mass not yet drawn before draw j
    log_left: Tensor  # (N, G, K) its logarithm
    steep: Tensor | None  # (N, G) bool: the draws leave less than _SAFE_REST; None if none does

    def existing(self, values: Tensor) -> Tensor:
        """The values (N, G, K), 0 at the padding; where there is none, the same tensor."""
        return values if self.missing is None else values.masked_fill(self.missing, 0.0)


class PlackettLuceAt:
    """See `PolicyAt`. Logits are divided by the temperature and shifted by each text's largest."""

    def __init__(self, logits: Tensor, temperature: float) -> None:
        self.temperature = temperature
        scaled = _scaled(logits, temperature)
        self.shifted = scaled - scaled.amax(-1, keepdim=True)
        self.exponentials = self.shifted.exp()
        self.total = self.exponentials.sum(-1, keepdim=True)
        self._draws: _Draws | None = None

    @cached_property
    def log_total(self) -> Tensor:
        return self.total.log()

    @cached_property
    def _narrow(self) -> Tensor:
        """(V, N) float32: texts side by side, as two sums for each of them are quickest."""
        return self.exponentials.float().T.contiguous()

    @cached_property
    def _entropy(self) -> Tensor:
        """(N, 1): log of the mass minus the mean of the shifted logits."""
        mean = (self.exponentials * self.shifted).sum(-1, keepdim=True) / self.total
        return self.log_total - mean

    def log_prob(self, actions: Tensor) -> Tensor:
        draws = self.draws(actions)
        log_prob = self.shifted.gather(1, draws.tokens).view(actions.shape).sub_(draws.log_left)
        return draws.existing(log_prob)

    def set_log_prob(self, actions: Tensor) -> Tensor:
        return self.log_prob(actions).sum(-1)

    def gradient(self, actions: Tensor, weights: Tensor) -> Tensor:
        """d/dz_v = sum over draws of weight * (1[v drawn now] - 1[v not drawn before] e_v / left).

        The dense part of a text is e_v times one number; only the drawn entries need a correction,
        which gives back what the later draws took from a token that was already gone.
        """
        draws = self.draws(actions)
        weights = draws.existing(weights.double())
        if draws.steep is None:
            rate = weights / draws.left
        else:
            steep = draws.steep[..., None]
            rate = torch.where(steep, 0.0, weights) / torch.where(steep, 1.0, draws.left)
        until = rate.cumsum(-1)
        total = until[..., -1:]
        gradient = self.exponentials * total.sum(1).neg_()
        corrections = torch.addcmul(weights, total - until, draws.drawn)
        gradient.scatter_add_(1, draws.tokens, corrections.flatten(1))
        if draws.steep is not None:
            _subtract_steep(gradient, self.shifted, weights, draws, draws.steep)
        return gradient if self.temperature == 1 else gradient / self.temperature

    def set_gradient(self, actions: Tensor, weights: Tensor) -> Tensor:
        return self.gradient(actions, weights[..., None].expand(actions.shape))

    def entropy(self) -> Tensor:
        return self._entropy[:, 0]

    def entropy_gradient(self, weights: Tensor) -> Tensor:
        """dH/dz_v = -p_v (log p_v + H)."""
        scale = -weights.double()[:, None] / (self.total * self.temperature)
        log_p = self.shifted + (self._entropy - self.log_total)
        return log_p.mul_(self.exponentials).mul_(scale)

    def kl(self, other: PlackettLuceAt) -> Tensor:
        gap = self.shifted - other.shifted
        mean = gap.mul_(self.exponentials).sum(-1, keepdim=True) / self.total
        return (mean + (other.log_total - self.log_total))[:, 0]

    def kl_of_shifted(self, shift: Tensor) -> Tensor:
        """With p' = p e^s / sum p e^s:    KL = sum p' s - log sum p e^s

        The sums, of positive numbers but for the factor s, are float32: within 1e-5.
        """
        by = shift / self.temperature
        by = by - by.max()
        grown = by.exp()
        sums = torch.stack([grown, grown * by]).float() @ self._narrow
        mass, moment = sums.double().unbind(0)
        return moment / mass - (mass.log() - self.log_total[:, 0])

    def kl_gradient(self, other: PlackettLuceAt, weights: Tensor) -> Tensor:
        gap = (self.shifted - other.shifted) + (other.log_total - self.log_total)
        p = self.exponentials / self.total
        kl = (p * gap).sum(-1, keepdim=True)
        return weights.double()[:, None] * p * (gap - kl) / self.temperature

    def draws(self, actions: Tensor) -> _Draws:
        """The mass left before each draw, from `total - drawn` where that is sound.

        That can cancel, and where it does, the rest is summed token by token.
        """
        if self._draws is not None and self._draws.actions is actions:
            return self._draws
        tokens, missing = actions.flatten(1), None
        if tokens.numel() > 0 and int(tokens.amin()) < 0:
            tokens, missing = tokens.clamp(min=0), actions < 0
        drawn = self.exponentials.gather(1, tokens).view(actions.shape)
        if missing is not None:
            drawn.masked_fill_(missing, 0.0)
        total = self.total[..., None]
        left = torch.sub(total, drawn.cumsum(-1).sub_(drawn))
        steep = left[..., -1] - drawn[..., -1] < _SAFE_REST * self.total
        if not bool(steep.any()):
            self._draws = _Draws(actions, missing, tokens, drawn, left, left.log(), None)
            return self._draws
        log_left = torch.where(steep[..., None], 1.0, left).log()
        text, candidate = steep.nonzero(as_tuple=True)
        log_left[text, candidate] = _log_left_steep(self.shifted[text], actions[text, candidate])
        self._draws = _Draws(actions, missing, tokens, drawn, left, log_left, steep)
        return self._draws


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    return logits.double() / temperature if temperature != 1 else logits.double()


def _first_time(drawn: Tensor, vocabulary: int) -> Tensor:
    """(R, n) bool: whether draws (R, n) are of a token that the row had not drawn before."""
    rows, draws = drawn.shape
    cells = drawn.numpy() + vocabulary * np.arange(rows)[:, None]
    number = np.min_scalar_type(draws)
    first = np.empty(rows * vocabulary, number)
    for draw in reversed(range(draws)):
        first[cells[:, draw]] = draw
    return torch.from_numpy(first[cells] == np.arange(draws, dtype=number))


def _gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    # rand() is in [0, 1), so log1p(-rand()) is finite; it may be 0, a Gumbel of +inf, once in 2^53 draws:
    # still a valid draw.
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _log_left_steep(shifted: Tensor, actions: Tensor) -> Tensor:
    """(R, V), (R, K) to (R, K), in log space over the tokens that remain: nothing underflows."""
    minus_inf = -float("inf")
    padded = torch.where(actions >= 0, actions, shifted.shape[1])
    remaining = torch.nn.functional.pad(shifted, (0, 1)).scatter(1, padded, minus_inf)[:, :-1]
    taken = torch.where(actions >= 0, shifted.gather(1, actions.clamp(min=0)), minus_inf)
    rest = torch.logsumexp(remaining, -1, keepdim=True)
    backwards = torch.logcumsumexp(torch.cat([rest, taken.flip(-1)], -1), -1)[:, 1:]
    return backwards.flip(-1)


def _subtract_steep(gradient: Tensor, shifted: Tensor, weights: Tensor, draws: _Draws, steep: Tensor) -> None:
    """Subtract weight * softmax over the remaining tokens, draw by draw, for the steep candidates."""
    text, candidate = steep.nonzero(as_tuple=True)
    remaining = shifted[text]
    for j in range(draws.actions.shape[-1]):
        token = draws.actions[text, candidate, j]
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
