"""What a training asks of a backend: losses and gradients of a model with an adapter in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn

from device_sim.finetuning.examples import Row


class Gradients(Protocol):
    """A backend's model; order, optimizer, checkpoints and which epoch is the best are the training's."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What learns, by the names of an `Adapter`'s tensors."""

    def step(self, batch: Sequence[Row], replayed: Sequence[int]) -> float:
        """The loss of a step, its gradients left in the parameters' `grad`.

        Args:
            replayed: numbers of the rows that the model is held to the base's distributions on.
        """

    def losses(self, rows: Sequence[Row]) -> list[float]:
        """Mean nats per answer token of each row, in float32."""
