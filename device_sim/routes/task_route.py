"""Route `update-task`: the head is moved by update tasks with shifted targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.heads.shipped import PART, head_of, head_places
from device_sim.routes.head_network import read_head, updatable_head
from device_sim.routes.route import Array, Delivered, HeadUpdate
from device_sim.routes.untouched import require_untouched
from device_sim.routes.update_task import UpdateTask
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import predict_rows
from grpo.head import Head
from personality_common.bundle.bundle import Bundle
from personality_common.contract import EMBEDDING, LATENT, LOGITS
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, MismatchError

Float64 = NDArray[np.float64]
_DUST: Final = 5e-7
"""What may be left of an update, relative to the norm of the head: half of what the route is allowed."""
_RANK: Final = 1e-7
"""Singular values below this share of the greatest are rounding of float32 latents."""


@dataclass(frozen=True)
class UpdateTaskRoute:
    """Into `PersonalityHead.mlpackage`, or else `PersonalityModelUpdatable.mlpackage`.

    A task takes one SGD step, whatever made the update. Each step of GRPO with SGD or momentum, clipped or
    not, moves the weight by a combination of the night's latents, so a whole night is one shift at the
    logits of its texts (`fit_shift`). Adam divides each weight by its own deviation and leaves their span;
    it cannot be one SGD step on those texts, nor many Adam tasks of one step, whose moments start at zero
    each time. Such an update is carried by rows made for it, one for each latent dimension (`basis_rows`),
    which the head alone can be trained with; the pipeline, which takes embeddings, refuses it.

    Figures: `rows` ("texts" or "basis"), `tasks` of one step each, `left`: norm of what the night's texts
    cannot carry over that of the head, and those of `Untouched`.
    """

    bundle: Bundle
    part: str = ""
    """`head` or `updatable`; "" is `head` where the bundle has it with the model that gives its latents."""
    name = "update-task"

    def __post_init__(self) -> None:
        if not self.part:
            whole = self.bundle.has("head") and self.bundle.has(PART)
            object.__setattr__(self, "part", "head" if whole else "updatable")
        if self.part not in ("head", "updatable"):
            raise ConfigError(f"part must be head or updatable, got {self.part!r}")
        self.bundle.part(self.part)

    def apply(self, update: HeadUpdate, target: Path) -> Delivered:
        """See `Route.apply`. The package is taken to hold `update.before`."""
        source = self.bundle.package(self.part)
        task = UpdateTask(source)
        task.weight, task.bias = (tensor.numpy().copy() for tensor in update.before)
        latents = update.latents.numpy()
        shift, left = fit_shift(update, latents)
        rows = "texts"
        if left > _DUST:
            if self.part != "head":
                raise MismatchError(
                    f"{source}: trains with embeddings of texts, whose span must hold the update;"
                    f" {left:.2g} of the head is outside; use sgd or momentum, or export the head alone"
                )
            rows = "basis"
            latents, shift = basis_rows(update)
        tasks = task.move(latents, shift)
        task.save(target)
        places = head_places(self.bundle, self.part)
        untouched = require_untouched(source, target, self.bundle.places(self.part), places)
        figures: dict[str, float | str] = {"rows": rows, "tasks": tasks, "left": left, **vars(untouched)}
        return Delivered(
            self.name,
            target,
            self.read(target),
            "float32",
            self.bundle.part("updatable" if self.part == "updatable" else PART).precision,
            self._predictor(target),
            figures=figures,
        )

    def read(self, package: Path) -> Head:
        """The head of a copy."""
        weight, bias = read_head(updatable_head(Package.open(package)), str(package))
        return head_of(weight, bias)

    def _predictor(self, package: Path) -> Callable[[Array], Array]:
        model = MilRuntime().load(package)
        if self.part == "updatable":
            return lambda embeddings: predict_rows(model, {EMBEDDING: embeddings})[LOGITS]
        backbone = MilRuntime().load(self.bundle.package(PART))

        def predict(embeddings: Array) -> Array:
            latents = predict_rows(backbone, {EMBEDDING: embeddings})[LATENT]
            return predict_rows(model, {LATENT: latents})[LOGITS]

        return predict


def fit_shift(update: HeadUpdate, latents: Array) -> tuple[Array, float]:
    """The least shift (N, V) at the logits of the night's texts that makes the update.

    Solves `before - after = (shift.T @ latents, shift.sum(0))` by least squares in float64.

    Returns:
        The shift, and the norm of what is left over that of the head.
    """
    wanted = _wanted(update)
    augmented = _augmented(latents)
    shift: Array = np.linalg.lstsq(augmented.T, wanted, rcond=_RANK)[0].astype(np.float32)
    left = np.linalg.norm(wanted - augmented.T @ shift.astype(np.float64))
    return shift, float(left / np.linalg.norm(_columns(update.after)))


def basis_rows(update: HeadUpdate) -> tuple[Array, Array]:
    """Latents (d + 1, d) and shifts (d + 1, V) that make any update: unit vectors, and zero for the bias.

    Row i moves column i of the weight and, unwanted, the bias; the last row takes that back.
    """
    wanted = _wanted(update)
    size = len(wanted) - 1
    latents = np.concatenate([np.eye(size), np.zeros((1, size))]).astype(np.float32)
    shift = wanted.copy()
    shift[-1] -= wanted[:-1].sum(0)
    return latents, shift.astype(np.float32)


def _augmented(latents: Array) -> Float64:
    """(N, d + 1) float64: a column of ones makes the bias a row of the weight."""
    return np.concatenate([latents, np.ones((len(latents), 1))], axis=1).astype(np.float64)


def _columns(head: Head) -> Float64:
    """(d + 1, V) float64: the weight transposed, and the bias."""
    return np.concatenate([head.weight.double().T.numpy(), head.bias.double().numpy()[None]])


def _wanted(update: HeadUpdate) -> Float64:
    return _columns(update.before) - _columns(update.after)
