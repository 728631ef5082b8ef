"""Open a Core ML package and run it: ML Programs, neural networks, and pipelines of both."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from device_sim.mil.evaluator import Evaluator, Observe, Record
from device_sim.mil.features import accepts, check_inputs, read_arrays
from device_sim.mil.limits import Budget, Limits
from device_sim.mil.neural_network import Network, load_network
from device_sim.mil.numerics import Policy, policy
from device_sim.mil.program import Program, load_program
from device_sim.mil.state import State
from device_sim.mil.types import Array, TensorType, prod
from personality_common.coreml.features import Feature
from personality_common.coreml.package import Package
from personality_common.errors import DataError


def load_mil(
    package: Package | str | os.PathLike[str], policy: str = "exact", limits: Limits | None = None
) -> Model:
    """Open a package for evaluation without Core ML.

    Args:
        package: opened, or the path of a `.mlpackage` or `.mlmodel`.
        policy: `exact`, `float64` or `fp16-accumulate`; see `device_sim.mil.numerics.Policy`.
        limits: what the package may use; None for the defaults.

    Raises:
        DataError: malformed, of a kind or with an op that is not supported (named with its output
            and position), or beyond the limits.
        ToolkitError: an unknown policy.
    """
    if not isinstance(package, Package):
        package = Package.open(package)
    return _load(package, _policy(policy), limits or Limits())


_policy = policy


class Model(ABC):
    """A model with its inputs and outputs described, ready to predict."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: dict[str, TensorType]

    def __init__(self, package: Package, policy: Policy, limits: Limits) -> None:
        self.where = f"{package.path}{f' ({package.name})' if package.name else ''}"
        self.policy = policy
        self.limits = limits
        description = package.spec.description
        self.inputs = read_arrays(description.input)
        self.outputs = read_arrays(description.output)
        self.states = {}

    def new_state(self) -> State:
        """State buffers filled with zeros, as `MLModel.newState()` makes them."""
        for name, type_ in self.states.items():
            size = prod([d or 0 for d in type_.shape or ()])
            Budget(self.limits).check_value(size, type_.dtype.itemsize, f"state {name[:80]!r}")
        return State(self.states)

    def predict(
        self, inputs: Mapping[str, Any], state: State | None = None, observe: Observe | None = None
    ) -> dict[str, Array]:
        """Evaluate the model.

        Args:
            inputs: by feature name; checked against the description first.
            state: from `new_state`, for a model that has states; may be written to.
            observe: called with each value that is computed on the way.

        Returns:
            By feature name, in the described types; float64 under the policy of that name.

        Raises:
            DataError: inputs that do not fit, a malformed model, or a limit.
        """
        checked = check_inputs(self.inputs, inputs)
        try:
            return self._evaluate(checked, state, observe)
        except DataError as error:
            raise DataError(_one_line(f"{self.where}: {error}")) from error

    def _evaluate(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None
    ) -> dict[str, Array]:
        found = self._run(inputs, state, observe)
        return {feature.name: self._output(feature, found) for feature in self.outputs}

    @abstractmethod
    def _run(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None
    ) -> dict[str, Array]:
        """The values of the outputs, in the types that the policy keeps."""

    def _output(self, feature: Feature, found: Mapping[str, Array]) -> Array:
        value = found[feature.name]
        if not accepts(feature, value.shape):
            raise DataError(
                f"output {feature.name!r} is described as {feature.shape_text}, got {value.shape}"
            )
        exact = value.dtype.kind == "f" and self.policy.name == "float64"
        with np.errstate(all="ignore"):
            return value if exact else value.astype(feature.dtype, copy=False)


class ProgramModel(Model):
    """An ML Program; `evaluator` gives access to its steps."""

    evaluator: Evaluator

    def __init__(self, package: Package, policy: Policy, limits: Limits) -> None:
        super().__init__(package, policy, limits)
        description = package.spec.description
        function = description.defaultFunctionName or "main"
        functions = {described.name: described for described in description.functions}
        if function in functions:
            self.inputs = read_arrays(functions[function].input)
            self.outputs = read_arrays(functions[function].output)
        program = load_program(package, function, policy, limits)
        self._match(program)
        self.states = program.states
        self.evaluator = Evaluator(program, policy, limits)

    def _match(self, program: Program) -> None:
        """The description and the program must speak of the same inputs and outputs."""
        described = {feature.name for feature in self.inputs}
        if described != set(program.inputs):
            raise DataError(
                f"inputs are described as {sorted(described)}, the program takes {sorted(program.inputs)}"
            )
        for feature in self.inputs:
            declared = program.inputs[feature.name].type
            if (np.dtype(feature.dtype).kind == "f") != (declared.dtype.kind == "f"):
                raise DataError(
                    f"input {feature.name!r} is described as {feature.dtype}, the program takes {declared}"
                )
        described = {feature.name for feature in self.outputs}
        if not described <= set(program.outputs):
            raise DataError(
                f"outputs are described as {sorted(described)}, the program gives {sorted(program.outputs)}"
            )

    def _run(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None
    ) -> dict[str, Array]:
        return self.evaluator.run(inputs, state, observe)


class NetworkModel(Model):
    """A neural network."""

    network: Network

    def __init__(self, package: Package, policy: Policy, limits: Limits) -> None:
        super().__init__(package, policy, limits)
        inputs = [feature.name for feature in self.inputs]
        outputs = [feature.name for feature in self.outputs]
        self.network = load_network(package.spec.neuralNetwork, inputs, outputs, policy, limits)

    def _run(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None
    ) -> dict[str, Array]:
        shapes = {feature.name: feature for feature in self.outputs}
        return self.network.run(inputs, shapes, observe)


class PipelineModel(Model):
    """Models in a row, chained by the names of their features."""

    parts: tuple[Model, ...]

    def __init__(self, package: Package, policy: Policy, limits: Limits) -> None:
        super().__init__(package, policy, limits)
        self.names = tuple(part.name for part in package.submodels)
        self.parts = tuple(_load(part, policy, limits) for part in package.submodels)
        known = {feature.name for feature in self.inputs}
        for name, part in zip(self.names, self.parts, strict=True):
            if part.states:
                raise DataError(f"{part.where}: states inside of a pipeline are not supported")
            if unknown := [f.name for f in part.inputs if f.name not in known]:
                raise DataError(f"model {name!r} takes {unknown[0]!r}, which nothing before it gives")
            known |= {feature.name for feature in part.outputs}
        if unknown := [f.name for f in self.outputs if f.name not in known]:
            raise DataError(f"no model gives the output {unknown[0]!r}")

    def _run(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None
    ) -> dict[str, Array]:
        values: dict[str, Array] = dict(inputs)
        for name, part in zip(self.names, self.parts, strict=True):
            # Not `predict`: it would round what one model hands to the next under `float64`.
            for feature in part.inputs:
                if not accepts(feature, shape := values[feature.name].shape):
                    raise DataError(
                        f"model {name!r} takes {feature.name!r} as {feature.shape_text}, got {shape}"
                    )
            wanted = {feature.name: values[feature.name] for feature in part.inputs}
            values |= part._evaluate(wanted, None, _labelled(name, observe))
        return values


_KINDS: dict[str, type[Model]] = {
    "mlProgram": ProgramModel,
    "neuralNetwork": NetworkModel,
    "pipeline": PipelineModel,
}


def _load(package: Package, policy: Policy, limits: Limits) -> Model:
    kind = _KINDS.get(package.kind)
    where = f"{package.path}{f' ({package.name})' if package.name else ''}"
    if kind is None:
        known = ", ".join(_KINDS)
        raise DataError(f"{where}: a model of kind {package.kind} cannot be run here, only {known}")
    try:
        return kind(package, policy, limits)
    except DataError as error:
        message = str(error)
        message = message if message.startswith(str(package.path)) else f"{where}: {message}"
        raise DataError(_one_line(message)) from error


def _one_line(message: str) -> str:
    """Names in a program may hold anything; what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def _labelled(name: str, observe: Observe | None) -> Observe | None:
    if observe is None:
        return None

    def labelled(record: Record) -> None:
        observe(replace(record, model=f"{name}/{record.model}" if record.model else name))

    return labelled
