"""Optimizers of an update task, in float32; their state begins with the task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pair = tuple[Array, Array]
"""Weight and bias, or what belongs to each."""


class SGD:
    """With momentum as in PyTorch: `v = momentum * v + g`, `p -= rate * v`."""

    def __init__(self, value: Mapping[str, float]) -> None:
        self.rate, self.momentum = np.float32(value["learning_rate"]), np.float32(value["momentum"])
        self.velocity: tuple[Array, ...] | None = None

    def step(self, parameters: Pair, gradients: Pair) -> Pair:
        if self.velocity is None:
            self.velocity = gradients
        else:
            pairs = zip(self.velocity, gradients, strict=True)
            self.velocity = tuple(self.momentum * v + g for v, g in pairs)
        weight, bias = (p - self.rate * v for p, v in zip(parameters, self.velocity, strict=True))
        return weight, bias


class Adam:
    """Kingma and Ba, arXiv:1412.6980, algorithm 1."""

    def __init__(self, value: Mapping[str, float]) -> None:
        self.rate, self.eps = value["learning_rate"], np.float32(value["eps"])
        self.betas = value["beta1"], value["beta2"]
        self.moments: list[tuple[Array, Array]] | None = None
        self.steps = 0

    def step(self, parameters: Pair, gradients: Pair) -> Pair:
        first, second = self.betas
        if self.moments is None:
            self.moments = [(np.zeros_like(g), np.zeros_like(g)) for g in gradients]
        self.steps += 1
        size = np.float32(self.rate / (1 - first**self.steps))
        root = np.float32(np.sqrt(1 - second**self.steps))
        self.moments = [
            (_mix(first, m, g), _mix(second, v, np.square(g)))
            for (m, v), g in zip(self.moments, gradients, strict=True)
        ]
        steps = [np.asarray(size * m / (np.sqrt(v) / root + self.eps), np.float32) for m, v in self.moments]
        weight, bias = (p - step for p, step in zip(parameters, steps, strict=True))
        return weight, bias


def _mix(beta: float, old: Array, new: Array) -> Array:
    mixed: Array = np.float32(beta) * old + np.float32(1 - beta) * new
    return mixed
