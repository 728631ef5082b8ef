"""Models that are one function of their features: the kinds that `device_sim.mil.kinds` has."""

from __future__ import annotations

from typing import Any

import numpy as np

from device_sim.mil.evaluator import Observe
from device_sim.mil.features import OTHERS, check_value
from device_sim.mil.kinds import KINDS, Bound
from device_sim.mil.limits import Usage
from device_sim.mil.model import Model
from device_sim.mil.numerics import Policy
from device_sim.mil.state import State
from device_sim.mil.step import MISFITS
from device_sim.mil.types import prod
from personality_common.coreml.features import Feature
from personality_common.coreml.package import Package
from personality_common.errors import DataError


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
