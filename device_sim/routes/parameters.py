"""How an updatable network is trained: its loss, its optimizer, and what an app may set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from personality_common.contract import LOGITS, TARGET
from personality_common.errors import DataError

Optimizer = Literal["sgd", "adam"]

_FIELDS: Final = {
    "sgd": {"learning_rate": "learningRate", "mini_batch_size": "miniBatchSize", "momentum": "momentum"},
    "adam": {
        "learning_rate": "learningRate",
        "mini_batch_size": "miniBatchSize",
        "beta1": "beta1",
        "beta2": "beta2",
        "eps": "eps",
    },
}


@dataclass(frozen=True)
class Allowed:
    """An updatable parameter: its default, and what an app may set.

    Attributes:
        default: used where the app sets nothing.
        least, greatest: inclusive; both None where only `values` or the default is allowed.
        values: the allowed ones, if they are listed.
    """

    default: float
    least: float | None = None
    greatest: float | None = None
    values: tuple[float, ...] = ()

    @property
    def largest(self) -> float:
        return self.greatest if self.greatest is not None else max(self.values or (self.default,))

    def require(self, name: str, value: float) -> float:
        """The value, if it is allowed; DataError names what is."""
        if self.least is not None and self.greatest is not None:
            allowed, range_text = self.least <= value <= self.greatest, f"{self.least:g} to {self.greatest:g}"
        else:
            listed = self.values or (self.default,)
            allowed, range_text = value in listed, ", ".join(f"{v:g}" for v in listed)
        if not allowed:
            raise DataError(f"{name}: the package allows {range_text}, got {value:g}; export it with another")
        return value


@dataclass(frozen=True)
class UpdateParameters:
    """Of a network that trains by mean squared error.

    Attributes:
        optimizer: "sgd" or "adam".
        allowed: learning_rate, mini_batch_size, epochs, seed, and those of the optimizer: momentum, or
            beta1, beta2 and eps.
        shuffle: the default.
    """

    optimizer: Optimizer
    allowed: Mapping[str, Allowed]
    shuffle: bool

    @classmethod
    def read(cls, update: Any, where: str) -> UpdateParameters:
        """From `NetworkUpdateParameters`.

        Raises:
            DataError: not one mean squared error of `target` against `logits`, or no SGD and no Adam.
        """
        losses = update.lossLayers
        kinds = [loss.WhichOneof("LossLayerType") for loss in losses]
        if kinds != ["meanSquaredErrorLossLayer"]:
            raise DataError(f"{where}: must have one loss, meanSquaredErrorLossLayer, has {kinds}")
        loss = losses[0].meanSquaredErrorLossLayer
        if (loss.input, loss.target) != (LOGITS, TARGET):
            raise DataError(
                f"{where}: its loss must compare {LOGITS!r} with {TARGET!r}, it compares {loss.input!r} with"
                f" {loss.target!r}"
            )
        kind = update.optimizer.WhichOneof("OptimizerType")
        if kind not in ("sgdOptimizer", "adamOptimizer"):
            raise DataError(f"{where}: must have an SGD or Adam optimizer, has {kind}")
        optimizer: Optimizer = "sgd" if kind == "sgdOptimizer" else "adam"
        message = getattr(update.optimizer, kind)
        allowed = {
            name: _allowed(getattr(message, field_), f"{where}: {name}")
            for name, field_ in _FIELDS[optimizer].items()
        }
        allowed["epochs"] = _allowed(update.epochs, f"{where}: epochs")
        allowed["seed"] = _allowed(update.seed, f"{where}: seed")
        return cls(optimizer, allowed, bool(update.shuffle.defaultValue))

    def value(self, name: str, asked: float | None) -> float:
        """What a parameter is in a task; None asks for the default.

        Raises:
            DataError: outside of what the package allows, or a parameter of another optimizer.
        """
        if name not in self.allowed:
            raise DataError(f"{name}: the package trains with {self.optimizer}, which has no such parameter")
        known = self.allowed[name]
        return known.default if asked is None else known.require(name, asked)


def _allowed(parameter: Any, where: str) -> Allowed:
    kind = parameter.WhichOneof("AllowedValues")
    default = parameter.defaultValue
    if kind == "range":
        known = Allowed(default, parameter.range.minValue, parameter.range.maxValue)
    elif kind == "set":
        known = Allowed(default, values=tuple(parameter.set.values))
    else:
        known = Allowed(default)
    known.require(f"{where}, the default", default)
    return known
