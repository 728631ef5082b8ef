"""Open a Core ML package, whatever its kind, and give what runs it."""

from __future__ import annotations

import os
from typing import Final

from device_sim.mil.chained import LinkedModel, PipelineModel
from device_sim.mil.function_model import FunctionModel
from device_sim.mil.kinds import KINDS, REFUSED
from device_sim.mil.limits import Budget, Limits, Usage
from device_sim.mil.model import Model, on_one_line
from device_sim.mil.numerics import Policy
from device_sim.mil.numerics import policy as policy_named
from device_sim.mil.program_model import NetworkClassifier, NetworkModel, ProgramModel
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
    return _load(package, policy_named(policy), Usage(Budget(limits or Limits())), function)


_ALONE: Final[dict[str, type[ProgramModel | FunctionModel]]] = {
    "mlProgram": ProgramModel,
    "neuralNetwork": NetworkModel,
    "neuralNetworkClassifier": NetworkClassifier,
    "neuralNetworkRegressor": NetworkModel,
    **dict.fromkeys(KINDS, FunctionModel),
}
_CHAINED: Final[dict[str, type[PipelineModel | LinkedModel]]] = {
    "pipeline": PipelineModel,
    "pipelineClassifier": PipelineModel,
    "pipelineRegressor": PipelineModel,
    "linkedModel": LinkedModel,
}
MODELS: Final = (*_ALONE, *_CHAINED)
"""Kinds of packages that are run."""


def _load(package: Package, policy: Policy, usage: Usage, function: str | None = None) -> Model:
    kind = package.kind
    where = f"{package.path}{f' ({package.name})' if package.name else ''}"
    if kind not in MODELS:
        reason = REFUSED.get(kind, f"those that can: {', '.join(MODELS)}")
        raise DataError(f"{where}: a model of kind {kind} cannot be run here: {reason}")
    if function is not None and kind != "mlProgram":
        raise DataError(f"{where}: only an ML Program has functions, this is of kind {kind}")
    try:
        if kind == "mlProgram":
            return ProgramModel(package, policy, usage, function)
        if kind in _CHAINED:
            return _CHAINED[kind](package, policy, usage, _load)
        return _ALONE[kind](package, policy, usage)
    except DataError as error:
        message = str(error)
        message = message if message.startswith(str(package.path)) else f"{where}: {message}"
        raise DataError(on_one_line(message)) from error
