"""Models that are made of other models: pipelines, and links to a model in another file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from device_sim.mil.evaluator import Observe, Record
from device_sim.mil.features import OTHERS, check_inputs, check_value, filled
from device_sim.mil.limits import Usage
from device_sim.mil.model import Model
from device_sim.mil.numerics import Policy
from device_sim.mil.state import State
from personality_common.coreml.features import Feature
from personality_common.coreml.linked import linked_package
from personality_common.coreml.package import Package
from personality_common.errors import DataError

Load = Callable[[Package, Policy, Usage], Model]
"""Opens a part, of whatever kind it is."""


class PipelineModel(Model):
    """Models in a row, chained by the names of their features."""

    takes = ("image", *OTHERS)
    gives = ("image", *OTHERS)

    parts: tuple[Model, ...]

    def __init__(self, package: Package, policy: Policy, usage: Usage, load: Load) -> None:
        super().__init__(package, policy, usage)
        self.names = tuple(part.name for part in package.submodels)
        self.parts = tuple(load(part, policy, usage) for part in package.submodels)
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


def _labelled(name: str, observe: Observe | None) -> Observe | None:
    if observe is None:
        return None

    def labelled(record: Record) -> None:
        observe(replace(record, model=f"{name}/{record.model}" if record.model else name))

    return labelled


class LinkedModel(Model):
    """A model in another file of the same folder."""

    takes = ("image", *OTHERS)
    gives = ("image", *OTHERS)

    def __init__(self, package: Package, policy: Policy, usage: Usage, load: Load) -> None:
        super().__init__(package, policy, usage)
        usage.budget.add_link()
        self.target = load(linked_package(package), policy, usage)
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
