"""How a night's gradients at the logits move heads: one head, or many side by side.

Plain and momentum SGD never leave the span of the night's latents: W = W_0 + A^T Z with a row of A for each
text. So a step moves A, its logits come from the (N, N) Gram matrix of the latents, and the head itself
is made once, at the end of the night: two dense products instead of two a step, and one rounding to
float32. Adam scales each weight by itself, so it keeps the weights.

Shapes: D devices, N texts each, V tokens, d dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.exact import aligned
from grpo.head import Head


class Descent(ABC):
    """Heads on their way through a night."""

    def __init__(self, latents: Tensor, heads: Head, start: Tensor, config: GRPOConfig) -> None:
        """
        Args:
            latents: (D, N, d) float32.
            heads: stacked, (D, V, d) and (D, V) float32; left as they are.
            start: (D, N, V) float32, their logits.
        """
        self.latents, self.heads, self.start, self.config = latents, heads, start, config
        devices, texts, _ = latents.shape
        wide = latents.double()
        self.gram = aligned(devices, texts, texts, dtype=torch.float64)
        # The 1 is the bias: a latent of one more dimension, whose value is 1.
        self.gram.copy_(torch.bmm(wide, wide.transpose(1, 2))).add_(1)

    @abstractmethod
    def step(self, gradient: Tensor, running: Tensor) -> Tensor:
        """Take a step, and return the logits after it, (D, N, V) float64.

        Args:
            gradient: (D, N, V) float64, at the logits.
            running: (D,) bool: the heads that move; the others stay, bit for bit.
        """

    @abstractmethod
    def head(self, devices: Tensor, share: Tensor) -> Head:
        """The heads of some devices (M,), a share (M,) of the way from their start; stacked, float32."""

    @abstractmethod
    def change(self) -> Tensor:
        """(D,) Euclidean norm of what has been added to the heads."""

    def gradient_norm(self, gradient: Tensor) -> Tensor:
        """(D,) Euclidean norm of the gradient at the head, over both tensors: G^T Z and the sum of G.

        |G^T Z|^2 is the sum over the elements of (G G^T) * (Z Z^T).
        """
        return self._norm(gradient)

    def _norm(self, at_logits: Tensor) -> Tensor:
        rows = aligned(*at_logits.shape, dtype=torch.float64).copy_(at_logits)
        product = torch.bmm(rows, rows.transpose(1, 2)) * self.gram
        # Rounding may leave a sum of squares that is zero just below it.
        return product.flatten(1).sum(-1).clamp(min=0).sqrt()

    def _clipped(self, gradient: Tensor) -> Tensor:
        limit = self.config.gradient_clip
        if limit is None:
            return gradient
        return gradient * (limit / self.gradient_norm(gradient).clamp(min=limit))[:, None, None]


class SpanDescent(Descent):
    """SGD, plain or with momentum, on the coefficients A (D, N, V) of the latents, in float64."""

    def __init__(self, latents: Tensor, heads: Head, start: Tensor, config: GRPOConfig) -> None:
        super().__init__(latents, heads, start, config)
        self._origin = aligned(*start.shape, dtype=torch.float64).copy_(start)
        self.coefficients = aligned(*start.shape, dtype=torch.float64)
        self._velocity: Tensor | None = None

    def step(self, gradient: Tensor, running: Tensor) -> Tensor:
        gradient = self._clipped(gradient)
        if self.config.optimizer == "momentum":
            if self._velocity is not None:
                gradient = gradient + self.config.momentum * self._velocity
            self._velocity = gradient
        move = gradient * self.config.learning_rate
        if not bool(running.all()):
            move.masked_fill_(~running[:, None, None], 0.0)
        self.coefficients.sub_(move)
        return torch.baddbmm(self._origin, self.gram, self.coefficients)

    def head(self, devices: Tensor, share: Tensor) -> Head:
        weight, bias = self.heads
        if len(devices) < len(weight):
            weight, bias = weight[devices], bias[devices]
        part = self.coefficients[devices].mul_(share[:, None, None])
        narrow = aligned(*part.shape, dtype=torch.float32).copy_(part).transpose(1, 2)
        latents = self.latents[devices]
        # A product of one text alone is fused with the sum, or not, by how many devices there are.
        alone = latents.shape[1] == 1
        moved = weight + torch.bmm(narrow, latents) if alone else torch.baddbmm(weight, narrow, latents)
        return Head(moved, (bias.double() + part.sum(1)).float())

    def change(self) -> Tensor:
        return self._norm(self.coefficients)


class DenseDescent(Descent):
    """Adam (arXiv:1412.6980) on the weights, in float32.

    Written out in single operations: the fused ones of `torch.optim` round an element by where it stands
    in a tensor, and so by how many devices there are.
    """

    def __init__(self, latents: Tensor, heads: Head, start: Tensor, config: GRPOConfig) -> None:
        super().__init__(latents, heads, start, config)
        self.tuned = Head(heads.weight.clone(), heads.bias.clone())
        self._mean = Head(*(torch.zeros_like(t) for t in heads))
        self._square = Head(*(torch.zeros_like(t) for t in heads))
        # Fresh memory of this size, page by page from the system, costs as much as the product itself.
        self._slope = torch.empty_like(heads.weight)
        self._steps = 0

    def step(self, gradient: Tensor, running: Tensor) -> Tensor:
        first, second = self.config.adam_beta1, self.config.adam_beta2
        self._steps += 1
        rate = self.config.learning_rate / (1 - first**self._steps)
        unbias = (1 - second**self._steps) ** 0.5
        at_logits = self._clipped(gradient).float()
        rows = aligned(*at_logits.shape, dtype=torch.float32).copy_(at_logits)
        torch.bmm(rows.transpose(1, 2), self.latents, out=self._slope)
        gradients = Head(self._slope, at_logits.sum(1))
        for value, slope, mean, square in zip(self.tuned, gradients, self._mean, self._square, strict=True):
            mean.mul_(first).add_(slope * (1 - first))
            square.mul_(second).add_(slope.square().mul_(1 - second))
            move = mean * rate / (square.sqrt().div_(unbias).add_(self.config.adam_eps))
            value.sub_(move.masked_fill_(~running.view(-1, *[1] * (value.ndim - 1)), 0.0))
        return self.tuned.logits(self.latents).double()

    def head(self, devices: Tensor, share: Tensor) -> Head:
        tuned, start = (Head(h.weight[devices], h.bias[devices]) for h in (self.tuned, self.heads))
        parts = []
        for now, was in zip(tuned, start, strict=True):
            by = share.float().view(-1, *[1] * (now.ndim - 1))
            parts.append(torch.where(by == 1, now, was + by * (now - was)))
        return Head(*parts)

    def change(self) -> Tensor:
        squares = [
            (now.double() - was.double()).square().flatten(1).sum(-1)
            for now, was in zip(self.tuned, self.heads, strict=True)
        ]
        return torch.stack(squares).sum(0).sqrt()


def make_descent(latents: Tensor, heads: Head, start: Tensor, config: GRPOConfig) -> Descent:
    """The optimizer that the configuration names; its state starts afresh."""
    kind = DenseDescent if config.optimizer == "adam" else SpanDescent
    return kind(latents, heads, start, config)
