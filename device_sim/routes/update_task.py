"""What `MLUpdateTask` does to the head, simulated from the package's own updatable parameters.

An update is carried by rows (latent, target) under mean squared error. `z` are the logits of a row, and
`shift` (N, V) is what the row asks for: one SGD step on targets `t = z - c / learning_rate * shift` moves the
head by exactly `W -= shift.T @ latents`, `b -= shift.sum(0)`. So `shift = learning_rate * g` is an SGD step
on any loss with the gradient `g` at the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class UpdateTask:
    """The head of an updatable package, as an update task of Core ML would train it.

    `weight` (325, 512), `bias` (325,) float32 are the current ones; `save` writes them into a copy.
    """

    weight: Array
    bias: Array

    @classmethod
    def open(cls, package: Path) -> UpdateTask:
        """From `PersonalityModelUpdatable.mlpackage` or `PersonalityHead.mlpackage`."""
        raise NotImplementedError

    def train(self, latents: Array, targets: Array, settings: TaskSettings) -> list[float]:
        """One update task: epochs over mini-batches under MSE. Returns the loss of each mini-batch."""
        raise NotImplementedError

    def step(self, latents: Array, logit_gradient: Array, learning_rate: float) -> None:
        """One SGD step on a loss with this gradient (N, 325) at the logits, by shifted targets."""
        raise NotImplementedError

    def carry(self, weight: Array, bias: Array, latents: Array) -> str:
        """Move to another head by shifted targets, whatever optimizer found it. Returns which rows did."""
        raise NotImplementedError

    def save(self, target: Path) -> None:
        """Write a copy of the package with the current head."""
        raise NotImplementedError


@dataclass(frozen=True)
class TaskSettings:
    """What an app sets of an update task; None: the package's default. Ranges are the package's."""

    learning_rate: float | None = None
    mini_batch_size: int | None = None
    epochs: int | None = None
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    shuffle: bool | None = None
    seed: int | None = None


def one_hot_targets(rows: NDArray[np.int64], tokens: NDArray[np.int64], size: int) -> Array:
    """(rows, size): 1 at liked tokens, else 0: what apps train the head with today."""
    raise NotImplementedError
