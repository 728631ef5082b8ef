"""Core ML itself, through coremltools. Checked on Apple Silicon only."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sim.mil.features import OTHERS, check_inputs, read_arrays
from device_sim.runtimes.pictures import to_picture, to_pixels
from device_sim.runtimes.runtime import Array
from personality_common.coreml.features import interface
from personality_common.coreml.limits import DEFAULT_LIMITS, Limits
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, ToolkitError

COMPUTE_UNITS: Final = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "all": "ALL"}
"""Name -> coremltools' name. Core ML may always fall back to the CPU."""


class CoreMLModel:
    """See `LoadedModel`."""

    def __init__(
        self, package: Package, model: Any, states: Mapping[str, Array], function: str | None = None
    ) -> None:
        description = interface(package, function)
        self.inputs = read_arrays(description.input, ("image", *OTHERS))
        self.outputs = read_arrays(description.output, ("image", *OTHERS))
        self._model = model
        self._state = None
        self._names = [state.name for state in description.state]
        if self._names:
            self._state = model.make_state()
            for name, value in states.items():
                self._state.write_state(name, np.asarray(value))

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        checked = check_inputs(self.inputs, inputs)
        for feature in self.inputs:
            if feature.type == "image" and feature.name in checked:
                checked[feature.name] = to_picture(checked[feature.name], feature)
        try:
            found = self._model.predict(checked, state=self._state) if self._state else None
            found = self._model.predict(checked) if found is None else found
        except RuntimeError as error:
            raise ToolkitError(f"Core ML: {' '.join(str(error).split())[:300]}") from error
        return {
            feature.name: np.asarray(found[feature.name]).astype(str(feature.dtype), copy=False)
            if feature.type == "multiArray"
            else to_pixels(found[feature.name], feature)
            if feature.type == "image"
            else found[feature.name]
            for feature in self.outputs
        }

    def read_states(self) -> dict[str, Array]:
        """State buffers by name, as the last prediction left them."""
        if self._state is None:
            return {}
        return {name: np.asarray(self._state.read_state(name)) for name in self._names}


class CoreMLRuntime:
    """Runs on macOS; elsewhere it says that it does not."""

    name = "coreml"

    def __init__(
        self,
        compute_units: str = "cpu",
        package_limits: Limits = DEFAULT_LIMITS,
        function: str | None = None,
    ) -> None:
        """Args: compute_units: of `COMPUTE_UNITS`; package_limits: see `Package.open`; function: a name."""
        self.function = function
        if compute_units not in COMPUTE_UNITS:
            allowed = ", ".join(COMPUTE_UNITS)
            raise ConfigError(f"--compute-units must be one of {allowed}, got {compute_units!r}")
        self.compute_units = compute_units
        self.package_limits = package_limits

    def unavailable(self) -> str | None:
        system = platform.system()
        return None if system == "Darwin" else f"Core ML runs on macOS only, this is {system}"

    def load(self, package: Path, states: Mapping[str, Array] | None = None) -> CoreMLModel:
        if reason := self.unavailable():
            raise ToolkitError(f"runtime coreml is not available: {reason}")
        opened = Package.open(package, self.package_limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of coremltools, about versions of torch and scikit-learn
            import coremltools as ct

            units = getattr(ct.ComputeUnit, COMPUTE_UNITS[self.compute_units])
            try:
                model = ct.models.MLModel(str(package), compute_units=units, function_name=self.function)
            except (RuntimeError, ValueError) as error:
                raise ToolkitError(f"{package}: Core ML: {' '.join(str(error).split())[:300]}") from error
        return CoreMLModel(opened, model, states or {}, self.function)
