"""Open a Core ML package and run it: ML Programs, neural networks, the other kinds, and pipelines of them."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from device_sim.mil.classifier import classify, labels_of, scores_name
from device_sim.mil.evaluator import Evaluation, Evaluator, Observe, Record
from device_sim.mil.features import CLASSES, OTHERS, check_inputs, check_value, filled, read_arrays
from device_sim.mil.images import pixels, preprocess
from device_sim.mil.kinds import KINDS, REFUSED, Bound
from device_sim.mil.limits import Budget, Limits, Usage
from device_sim.mil.neural_network import (
    RANK5_MAPPING,
    from_rank5,
    load_network,
    require_supported,
    to_rank5,
)
from device_sim.mil.numerics import Policy, policy
from device_sim.mil.program import Program, load_program
from device_sim.mil.state import State, fixed_shape
from device_sim.mil.step import MISFITS
from device_sim.mil.types import Array, TensorType, extent, prod
from personality_common.coreml.features import Feature, interface
from personality_common.coreml.linked import linked_package
from personality_common.coreml.network import network
from personality_common.coreml.package import Package
from personality_common.errors import DataError


def load_mil(
    package: Package | str | os.PathLike[str],
    policy: str = "exact",
    limits: Limits | None = None,
    function: str | None = None,
) -> Model:
    """Open a package for evaluation without Core ML.

    Args:
        package: opened, or the path of a `.mlpackage` or `.mlmodel`.
        policy: `exact`, `float64` or `fp16-accumulate`; see `device_sim.mil.numerics.Policy`.
        limits: what the package may use; None for the defaults.
        function: of an ML Program with several; None for the default one.

    Raises:
        DataError: malformed, of a kind or with an op that is not supported (named with its output
            and position), or beyond the limits.
        ToolkitError: an unknown policy.
    """
    if not isinstance(package, Package):
        package = Package.open(package)
    return _load(package, _policy(policy), Usage(Budget(limits or Limits())), function)


_policy = policy


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
            raise DataError(_one_line(f"{self.where}: {error}")) from error

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


class ProgramModel(Model):
    """An ML Program; `evaluator` gives access to its steps."""

    evaluator: Evaluator
    takes = ("image",)
    gives: tuple[str, ...] = ("image", *CLASSES)

    def __init__(self, package: Package, policy: Policy, usage: Usage, function: str | None = None) -> None:
        super().__init__(package, policy, usage, function)
        self.function = function or package.spec.description.defaultFunctionName or "main"
        program = self._load(package, usage)
        self.states = program.states
        self.evaluator = Evaluator(program, policy, usage.budget)

    def _load(self, package: Package, usage: Usage) -> Program:
        program = load_program(package, self.function, self.policy, usage)
        self._match(program)
        return program

    def complete(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if absent := [feature.name for feature in self.inputs if feature.name not in inputs]:
            raise DataError(f"input {absent[0]!r} is optional, and has no default value: give it")
        return inputs

    def start(
        self, inputs: dict[str, Array], state: State | None = None, usage: Usage | None = None
    ) -> Evaluation:
        """Begin an evaluation, to go through it step by step.

        Args:
            inputs: checked against the description. A program sees an image as (1, channels, height, width).
        """
        images = {feature.name for feature in self.inputs if feature.type == "image"}
        entering = {n: x[None] if n in images and x.ndim == 3 else x for n, x in inputs.items()}
        return self.evaluator.start(entering, state, usage)

    def finish(self, evaluation: Evaluation) -> dict[str, Any]:
        """The outputs by feature name, after the last step; see `predict`."""
        found: dict[str, Any] = evaluation.outputs()
        if (classifier := self.evaluator.program.classifier) is not None:
            label, scores = classify(found[classifier.probabilities], classifier.labels)
            found |= {classifier.label: label, classifier.scores: scores}
        return {
            feature.name: found[feature.name]
            if feature.type in CLASSES
            else self._output(feature, found[feature.name])
            for feature in self.outputs
        }

    def _evaluate(
        self, inputs: dict[str, Array], state: State | None, observe: Observe | None, usage: Usage
    ) -> dict[str, Array]:
        evaluation = self.start(inputs, state, usage)
        evaluation.finish(observe)
        return self.finish(evaluation)

    def _match(self, program: Program) -> None:
        """The description and the program must speak of the same inputs and outputs."""
        described = {feature.name for feature in self.inputs}
        if described != set(program.inputs):
            raise DataError(
                f"inputs are described as {sorted(described)}, the program takes {sorted(program.inputs)}"
            )
        for feature in self.inputs:
            declared = program.inputs[feature.name].type
            floats = feature.type == "image" or np.dtype(feature.dtype).kind == "f"
            if floats != (declared.dtype.kind == "f"):
                raise DataError(
                    f"input {feature.name!r} is described as {feature.dtype}, the program takes {declared}"
                )
        described = {feature.name for feature in self.outputs}
        given = set(program.outputs)
        if (classifier := program.classifier) is not None:
            given |= {classifier.label, classifier.scores}
            kinds = {feature.name: feature.type for feature in self.outputs}
            label, scores = kinds.get(classifier.label), kinds.get(classifier.scores)
            if label not in (None, "string", "int64") or scores not in (None, "dictionary"):
                raise DataError(
                    f"a classifier gives a label and a dictionary, described are {label} and {scores}"
                )
        arrays = {f.name for f in self.outputs if f.type not in CLASSES}
        if not arrays <= set(program.outputs) or not described <= given:
            raise DataError(
                f"outputs are described as {sorted(described)}, the program gives {sorted(given)}"
            )


class NetworkModel(ProgramModel):
    """A neural network, whose layers are the steps of a program; a regressor is one, too."""

    takes = ("image",)
    gives: tuple[str, ...] = ("image",)

    def __init__(self, package: Package, policy: Policy, usage: Usage) -> None:
        self._network: Any = network(package)
        require_supported(self._network)  # before the inputs are blamed
        super().__init__(package, policy, usage)

    def complete(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Optional inputs, such as a recurrent layer's first state, are zeros where they are left out.

        The format had them before it had default values; coremltools (`_set_optional_inputs`, and its check
        of deployment targets) asks for the newer specification only where a default is not zero.
        """
        absent = [f for f in self.inputs if f.name not in inputs and f.type == "multiArray"]
        return super().complete(inputs | {feature.name: filled(feature, 0) for feature in absent})

    def _load(self, package: Package, usage: Usage) -> Program:
        self._rank5 = self._network.arrayInputShapeMapping == RANK5_MAPPING
        inputs = [feature.name for feature in self.inputs]
        return load_network(self._network, inputs, self._leaving(), self.policy, usage)

    def _leaving(self) -> list[str]:
        """Names of the values that the program gives."""
        return [feature.name for feature in self.outputs]

    def start(
        self, inputs: dict[str, Array], state: State | None = None, usage: Usage | None = None
    ) -> Evaluation:
        entering = {}
        for feature in self.inputs:
            value = inputs[feature.name]
            if feature.type == "image":
                value = preprocess(self._network, feature, value)
            elif self._rank5:
                value = to_rank5(feature.name, value)
            entering[feature.name] = value
        return super().start(entering, state, usage)

    def _output(self, feature: Feature, value: Array) -> Array:
        arrays = self._rank5 and feature.type != "image"
        return super()._output(feature, from_rank5(value, feature) if arrays else value)


class NetworkClassifier(NetworkModel):
    """A network whose scores are those of classes: it gives a label, and the scores by label."""

    gives = ("image", *CLASSES)

    def _leaving(self) -> list[str]:
        self.labels = labels_of(self._network)
        self._scores = scores_name(self._network)
        arrays = [feature.name for feature in self.outputs if feature.type not in CLASSES]
        return list(dict.fromkeys([*arrays, self._scores]))

    def finish(self, evaluation: Evaluation) -> dict[str, Any]:
        """Arrays as they are; a dictionary of the scores by label; the label with the highest."""
        found = evaluation.outputs()
        label, scores = classify(found[self._scores], self.labels)
        return {
            feature.name: scores
            if feature.type == "dictionary"
            else label
            if feature.type in CLASSES
            else self._output(feature, found[feature.name])
            for feature in self.outputs
        }


class PipelineModel(Model):
    """Models in a row, chained by the names of their features."""

    takes = ("image", *OTHERS)
    gives = ("image", *OTHERS)

    parts: tuple[Model, ...]

    def __init__(self, package: Package, policy: Policy, usage: Usage) -> None:
        super().__init__(package, policy, usage)
        self.names = tuple(part.name for part in package.submodels)
        self.parts = tuple(_load(part, policy, usage) for part in package.submodels)
        known = {feature.name for feature in self.inputs}
        for name, part in zip(self.names, self.parts, strict=True):
            if part.states:
                raise DataError(f"{part.where}: states inside of a pipeline are not supported")
            if unknown := [f.name for f in part.inputs if f.name not in known and not f.optional]:
                raise DataError(f"model {name!r} takes {unknown[0]!r}, which nothing before it gives")
            known |= {feature.name for feature in part.outputs}
        if unknown := [f.name for f in self.outputs if f.name not in known]:
            raise DataError(f"no model gives the output {unknown[0]!r}")

    def _evaluate(
        self, inputs: dict[str, Any], state: State | None, observe: Observe | None, usage: Usage
    ) -> dict[str, Any]:
        values: dict[str, Any] = dict(inputs)
        before = usage.live
        for name, part in zip(self.names, self.parts, strict=True):
            wanted = self.taken(name, part, values)
            values |= part._evaluate(wanted, None, _labelled(name, observe), usage)
            usage.live = before + sum(
                value.nbytes for value in values.values() if isinstance(value, np.ndarray)
            )
        return {f.name: self._output(f, values[f.name]) for f in self.outputs if f.name in values}

    def taken(self, name: str, part: Model, values: Mapping[str, Any]) -> dict[str, Any]:
        """What one of the models takes of the values that are known, with defaults for what none of them is.

        Raises:
            DataError: a value that does not fit, or none.
        """
        wanted = {}
        for feature in part.inputs:
            if feature.name in values:
                wanted[feature.name] = _handed(name, feature, values[feature.name])
            elif feature.default is not None:
                wanted[feature.name] = filled(feature, feature.default)
            elif not feature.optional:
                raise DataError(f"model {name!r} takes {feature.name!r}, which was left out")
        return part.complete(wanted)

    def _output(self, feature: Feature, value: Any) -> Any:
        if feature.type == "multiArray" and isinstance(value, np.ndarray):
            return super()._output(feature, value)
        return check_value(feature, value, "output")


def _handed(model: str, feature: Feature, value: Any) -> Any:
    """What one model of a pipeline hands to the next; arrays are not rounded, which `float64` forbids."""
    if not isinstance(value, np.ndarray) or feature.type != "multiArray":
        return check_value(feature, value, f"model {model!r}: input")
    if not feature.accepts(value.shape):
        raise DataError(f"model {model!r} takes {feature.name!r} as {feature.shape_text}, got {value.shape}")
    return value


class FunctionModel(Model):
    """One function of the features: a tree ensemble, an encoder, …; see `device_sim.mil.kinds`."""

    takes = OTHERS
    gives = OTHERS

    def __init__(self, package: Package, policy: Policy, usage: Usage) -> None:
        super().__init__(package, policy, usage)
        usage.budget.add_ops(1, "models")
        predicted = package.spec.description.predictedFeatureName
        proto = getattr(package.spec, package.kind)
        self._run = KINDS[package.kind](Bound(proto, self.inputs, self.outputs, predicted, usage))

    def _evaluate(
        self, inputs: dict[str, Any], state: State | None, observe: Observe | None, usage: Usage
    ) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            try:
                found = self._run(inputs, usage)
            except MISFITS as error:
                raise DataError(" ".join(str(error).split())[:300] or type(error).__name__) from error
            return {f.name: self._output(f, found[f.name]) for f in self.outputs if f.name in found}

    def _output(self, feature: Feature, value: Any) -> Any:
        if feature.type == "multiArray":
            array = np.asarray(value)
            if feature.shape and array.shape != feature.shape and array.size == prod(feature.shape):
                array = array.reshape(feature.shape)
            if np.dtype(feature.dtype).kind == "i" and array.dtype.kind == "f":
                array = np.array([_whole(feature, x) for x in array.reshape(-1)], np.int64).reshape(
                    array.shape
                )
                return check_value(feature, array, "output")
            return super()._output(feature, array)
        if feature.type == "int64" and isinstance(value, float | np.floating | np.ndarray):
            value = _whole(feature, np.asarray(value).reshape(-1)[0])
        return check_value(feature, value, "output")


def _whole(feature: Feature, number: Any) -> int:
    """An integer, which a number with a fraction does not become."""
    if float(number) != int(number):
        raise DataError(f"output {feature.name!r} is described as a whole number, got {float(number)!r}")
    return int(number)


class LinkedModel(Model):
    """A model in another file of the same folder."""

    takes = ("image", *OTHERS)
    gives = ("image", *OTHERS)

    def __init__(self, package: Package, policy: Policy, usage: Usage) -> None:
        super().__init__(package, policy, usage)
        usage.budget.add_link()
        self.target = _load(linked_package(package), policy, usage)
        if self.target.states:
            raise DataError("states inside of a linked model are not supported")
        for ours, theirs in ((self.inputs, self.target.inputs), (self.outputs, self.target.outputs)):
            if unknown := {f.name for f in ours} - {f.name for f in theirs}:
                raise DataError(f"the linked model has no feature {sorted(unknown)[0][:80]!r}")

    def handed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the other model takes."""
        return self.target.complete(check_inputs(self.target.inputs, inputs))

    def _evaluate(
        self, inputs: dict[str, Any], state: State | None, observe: Observe | None, usage: Usage
    ) -> dict[str, Any]:
        found = self.target._evaluate(self.handed(inputs), None, observe, usage)
        return {feature.name: found[feature.name] for feature in self.outputs if feature.name in found}


MODELS: dict[str, type[Model]] = {
    "mlProgram": ProgramModel,
    "neuralNetwork": NetworkModel,
    "neuralNetworkClassifier": NetworkClassifier,
    "neuralNetworkRegressor": NetworkModel,
    "pipeline": PipelineModel,
    "pipelineClassifier": PipelineModel,
    "pipelineRegressor": PipelineModel,
    "linkedModel": LinkedModel,
    **dict.fromkeys(KINDS, FunctionModel),
}


def _load(package: Package, policy: Policy, usage: Usage, function: str | None = None) -> Model:
    kind = MODELS.get(package.kind)
    where = f"{package.path}{f' ({package.name})' if package.name else ''}"
    if kind is None:
        reason = REFUSED.get(package.kind, f"those that can: {', '.join(MODELS)}")
        raise DataError(f"{where}: a model of kind {package.kind} cannot be run here: {reason}")
    if function is not None and kind is not ProgramModel:
        raise DataError(f"{where}: only an ML Program has functions, this is of kind {package.kind}")
    try:
        if kind is ProgramModel:
            return ProgramModel(package, policy, usage, function)
        return kind(package, policy, usage)
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
