"""What `MLUpdateTask` does to the head, simulated from the package's own updatable parameters.

Mean squared error carries any gradient. Let `c` be what the device divides `z - t` by to get the gradient of
its loss at the logits: rows * outputs / 2 if the error is the mean over rows and outputs. With the targets
`t = z - c * g` that gradient is `g`, (N, 325), whatever loss it comes from; every SGD or Adam step of the
task is then the step on that loss.

Assumed where Core ML is silent, and to be checked on a Mac: the mean over rows and outputs (a calibrated `c`
takes care of any other factor), momentum and Adam as in PyTorch, the last mini-batch of an epoch smaller,
the order of shuffled rows. An optimizer's moments live as long as a task: a task of one step has none, so
momentum and Adam across steps exist only across the mini-batches and epochs of one task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_sim.routes.head_network import read_head, updatable_head, write_head
from device_sim.routes.optimizers import SGD, Adam
from device_sim.routes.parameters import UpdateParameters
from personality_common.coreml.package import Package
from personality_common.coreml.patching import edited_copy
from personality_common.errors import DataError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TaskSettings:
    """What an app sets of an update task; None: the package's default.

    `momentum` is of SGD, `beta1`, `beta2` and `eps` are of Adam.
    """

    learning_rate: float | None = None
    mini_batch_size: int | None = None
    epochs: int | None = None
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    shuffle: bool | None = None
    seed: int | None = None


class UpdateTask:
    """The head of an updatable package, trained as an update task of Core ML would, in float32.

    Attributes:
        package: the folder; only read.
        parameters: what it allows.
        weight, bias: (V, d) and (V,) float32, as they are now; replaced, never written into.
        device_factor: what the simulated device multiplies the mean squared error by; other than 1 it stands
            for a Core ML that normalises in another way, to be found by `calibrate`.
    """

    def __init__(self, package: Path, device_factor: float = 1.0) -> None:
        """Open `PersonalityModelUpdatable.mlpackage` or `PersonalityHead.mlpackage`.

        Raises:
            DataError: no updatable head of one inner product with float32 weights, trained by mean squared
                error with SGD or Adam.
        """
        self.package = package
        self.device_factor = device_factor
        network = updatable_head(Package.open(package))
        self.parameters = UpdateParameters.read(network.updateParams, str(package))
        self.weight, self.bias = read_head(network, str(package))

    def logits(self, latents: Array) -> Array:
        """(N, d) to (N, V)."""
        return np.asarray(latents @ self.weight.T + self.bias, np.float32)

    def train(self, latents: Array, targets: Array, settings: TaskSettings | None = None) -> list[float]:
        """One update task.

        Args:
            latents: (N, d) float32.
            targets: (N, V) float32.
            settings: what the app sets.

        Returns:
            Mean squared error of every mini-batch before its step.

        Raises:
            DataError: arrays that do not fit, a setting that the package does not allow, or a head that is
                no longer finite; the head is then as it was.
        """
        self._check(latents, targets)
        value = self._settings(settings or TaskSettings())
        size, epochs = int(value["mini_batch_size"]), int(value["epochs"])
        shuffle = bool(value["shuffle"])
        draw = np.random.default_rng(int(value["seed"]))
        optimizer = Adam(value) if self.parameters.optimizer == "adam" else SGD(value)
        losses, kept = [], (self.weight, self.bias)
        for _ in range(epochs):
            order = draw.permutation(len(latents)) if shuffle else np.arange(len(latents))
            for start in range(0, len(latents), size):
                rows = order[start : start + size]
                with np.errstate(over="ignore", invalid="ignore"):  # checked below
                    losses.append(self._mini_batch(latents[rows], targets[rows], optimizer))
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            self.weight, self.bias = kept
            raise DataError(
                "the head must stay finite, an update task made it inf or NaN; lower learning_rate"
                f" ({value['learning_rate']:g})"
            )
        return losses

    def default_c(self, rows: int) -> float:
        """`c` if the error is the mean over rows and outputs."""
        return rows * len(self.bias) / 2

    def step(
        self,
        latents: Array,
        gradient: Array,
        learning_rate: float | None = None,
        c: float | None = None,
    ) -> None:
        """One step on any loss: one task of one mini-batch with shifted targets.

        Args:
            latents: (N, d), at most as many as the package allows in a mini-batch.
            gradient: (N, V) of the loss at the logits of the current head.
            learning_rate: of the task; None: the package's default.
            c: calibrated; None: `default_c`.

        Raises:
            DataError: see `train`.
        """
        c = self.default_c(len(latents)) if c is None else c
        targets = self.logits(latents) - np.float32(c) * gradient
        settings = TaskSettings(learning_rate, len(latents), epochs=1, shuffle=False)
        self.train(latents, targets, settings)

    def move(self, latents: Array, shift: Array, c_per_row: float | None = None) -> int:
        """`weight -= shift.T @ latents`, `bias -= shift.sum(0)`, by tasks of one SGD step each.

        The learning rate is folded into the targets, so any step fits the range of the package. More rows
        than a mini-batch may have become several tasks, each with targets from the head as it then is.

        Args:
            latents: (N, d).
            shift: (N, V); `learning_rate * gradient` is one SGD step.
            c_per_row: calibrated `c` of a row; None: outputs / 2.

        Returns:
            How many tasks it took.

        Raises:
            DataError: the package trains with Adam; see also `train`.
        """
        if self.parameters.optimizer != "sgd":
            raise DataError(f"{self.package}: only an SGD step moves the head by a given amount, it has Adam")
        rate = self.parameters.value("learning_rate", None)
        size = int(self.parameters.allowed["mini_batch_size"].largest)
        starts = range(0, len(latents), size)
        for start in starts:
            rows = slice(start, start + size)
            count = len(latents[rows])
            c = self.default_c(count) if c_per_row is None else count * c_per_row
            self.step(latents[rows], np.float32(1 / rate) * shift[rows], rate, c)
        return len(starts)

    def save(self, target: Path) -> None:
        """Write a copy of the package that has the current head; the package itself stays as it is."""
        edited_copy(self.package, target, lambda copy: write_head(copy, self.weight, self.bias))

    def _settings(self, settings: TaskSettings) -> dict[str, float]:
        shuffle = self.parameters.shuffle if settings.shuffle is None else settings.shuffle
        asked = {name: value for name, value in vars(settings).items() if name != "shuffle"}
        names = [
            name for name, value in asked.items() if value is not None or name in self.parameters.allowed
        ]
        return {name: self.parameters.value(name, asked[name]) for name in names} | {"shuffle": shuffle}

    def _mini_batch(self, latents: Array, targets: Array, optimizer: SGD | Adam) -> float:
        difference = self.logits(latents) - targets
        at_logits: Array = difference * np.float32(2 * self.device_factor / difference.size)
        gradients = at_logits.T @ latents, at_logits.sum(0)
        self.weight, self.bias = optimizer.step((self.weight, self.bias), gradients)
        return float(np.mean(np.square(difference, dtype=np.float64)) * self.device_factor)

    def _check(self, latents: Array, targets: Array) -> None:
        outputs, inputs = self.weight.shape
        wanted = ((len(latents), inputs), (len(latents), outputs))
        if not len(latents) or (latents.shape, targets.shape) != wanted:
            raise DataError(
                f"latents and targets must be (N, {inputs}) and (N, {outputs}) with N >= 1, got"
                f" {latents.shape} and {targets.shape}"
            )
        for name, array in (("latents", latents), ("targets", targets)):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise DataError(f"{name} must be finite float32, got {array.dtype} or inf or NaN")


def calibrate(task: UpdateTask, rows: int = 1) -> float:
    """`c` for tasks of so many rows, read off a task with known targets; the head ends as it was.

    The bias alone moves: latents are zero, and targets one below the logits ask for a step of
    `learning_rate / c` for each row.

    Raises:
        DataError: see `UpdateTask.train`; the package trains with Adam, whose steps hide the factor.
    """
    if task.parameters.optimizer != "sgd":
        raise DataError(f"{task.package}: c is read off an SGD step, it has Adam")
    kept = task.weight, task.bias
    task.bias = np.zeros_like(task.bias)
    latents = np.zeros((rows, task.weight.shape[1]), np.float32)
    rate = task.parameters.value("learning_rate", None)
    task.train(latents, task.logits(latents) - 1, TaskSettings(rate, rows, epochs=1, shuffle=False))
    moved = -float(task.bias.astype(np.float64).mean())
    task.weight, task.bias = kept
    return rows * rate / moved


def one_hot_targets(liked: Sequence[Sequence[int]], outputs: int) -> Array:
    """(rows, outputs) float32, 1 at the liked tokens of each row, else 0: what apps train with today.

    Raises:
        DataError: a token that is none.
    """
    targets = np.zeros((len(liked), outputs), np.float32)
    for row, tokens in enumerate(liked):
        for token in tokens:
            if not 0 <= token < outputs:
                raise DataError(f"row {row}: a token must be 0 to {outputs - 1}, got {token}")
            targets[row, token] = 1
    return targets
