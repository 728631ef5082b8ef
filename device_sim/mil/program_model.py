"""Models that are a program of steps: ML Programs, and neural networks, whose layers become steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from device_sim.mil.classifier import classify, labels_of, scores_name
from device_sim.mil.evaluator import Evaluation, Evaluator, Observe
from device_sim.mil.features import CLASSES, filled
from device_sim.mil.images import preprocess
from device_sim.mil.limits import Usage
from device_sim.mil.model import Model
from device_sim.mil.neural_network import (
    RANK5_MAPPING,
    from_rank5,
    load_network,
    require_supported,
    to_rank5,
)
from device_sim.mil.numerics import Policy
from device_sim.mil.program import Program, load_program
from device_sim.mil.state import State
from device_sim.mil.types import Array
from personality_common.coreml.features import Feature
from personality_common.coreml.network import network
from personality_common.coreml.package import Package
from personality_common.errors import DataError


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
