"""What every model that is run here has: described features, checks of them, errors that name it."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from device_sim.mil.evaluator import Observe
from device_sim.mil.features import check_inputs, read_arrays
from device_sim.mil.images import pixels
from device_sim.mil.limits import Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.state import State, fixed_shape
from device_sim.mil.types import Array, TensorType, extent
from personality_common.coreml.features import Feature, interface
from personality_common.coreml.package import Package
from personality_common.errors import DataError


class Model(ABC):
    """A model with its inputs and outputs described, ready to predict."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: dict[str, TensorType]
    takes: tuple[str, ...] = ()
    """Types of inputs beside multi-arrays."""
    gives: tuple[str, ...] = ()
    """And of outputs."""

    def __init__(self, package: Package, policy: Policy, usage: Usage, function: str | None = None) -> None:
        self.where = f"{package.path}{f' ({package.name})' if package.name else ''}"
        self.policy = policy
        self.budget = usage.budget
        description = interface(package, function)
        self.inputs = read_arrays(description.input, self.takes)
        self.outputs = read_arrays(description.output, self.gives)
        self.states = {}

    def new_state(self) -> State:
        """State buffers filled with zeros, as `MLModel.newState()` makes them.

        Raises:
            DataError: all of them together with what the model holds are beyond the limits.
        """
        usage = Usage(self.budget)
        for name, type_ in self.states.items():
            size = extent(fixed_shape(name, type_))
            usage.check_value(size, type_.dtype.itemsize, f"state {name[:80]!r}")
            usage.live += size * type_.dtype.itemsize
        state = State(self.states)
        self.budget.held += usage.live
        weakref.finalize(state, self.budget.release, usage.live)
        return state

    def predict(
        self, inputs: Mapping[str, Any], state: State | None = None, observe: Observe | None = None
    ) -> dict[str, Any]:
        """Evaluate the model.

        Args:
            inputs: by feature name; checked against the description first.
            state: from `new_state`, for a model that has states; may be written to.
            observe: called with each value that is computed on the way.

        Returns:
            By feature name: arrays of the described types (float64 under the policy of that name); of a
            classifier, a label and a dictionary of scores, too.

        Raises:
            DataError: inputs that do not fit, a malformed model, or a limit.
        """
        checked = check_inputs(self.inputs, inputs)
        with self.named():
            return self._evaluate(self.complete(checked), state, observe, Usage(self.budget))

    def complete(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs with what stands for the optional ones that were left out.

        Raises:
            DataError: nothing does.
        """
        return inputs

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors say which model it is, on one line."""
        try:
            yield
        except DataError as error:
            raise DataError(on_one_line(f"{self.where}: {error}")) from error

    @abstractmethod
    def _evaluate(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None, usage: Usage
    ) -> dict[str, Array]:
        """The outputs by feature name; see `predict`."""

    def _output(self, feature: Feature, value: Array) -> Array:
        exact = value.dtype.kind == "f" and self.policy.name == "float64"
        if feature.type == "image":
            half = feature.dtype == "grayscale_float16"
            image = pixels(feature, value)
            with np.errstate(over="ignore"):
                return image if exact else image.astype(np.float16 if half else np.float32)
        if not feature.accepts(value.shape):
            raise DataError(
                f"output {feature.name!r} is described as {feature.shape_text}, got {value.shape}"
            )
        with np.errstate(all="ignore"):
            return value if exact else value.astype(feature.dtype, copy=False)


def on_one_line(message: str) -> str:
    """Names in a program may hold anything; what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
