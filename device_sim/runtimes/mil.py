"""The interpreter of packages as a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_sim.mil import Limits, Model, Observe, State, load_mil
from device_sim.runtimes.runtime import Array
from personality_common.coreml.features import Feature
from personality_common.coreml.limits import DEFAULT_LIMITS
from personality_common.coreml.limits import Limits as PackageLimits
from personality_common.coreml.package import Package


class MilModel:
    """See `LoadedModel`; `predict` can be observed op by op."""

    def __init__(self, model: Model, states: Mapping[str, Array]) -> None:
        self.model = model
        self.state: State | None = None
        if model.states or states:
            self.state = model.new_state()
            for name, value in states.items():
                self.state[name] = value

    @property
    def inputs(self) -> tuple[Feature, ...]:
        return self.model.inputs

    @property
    def outputs(self) -> tuple[Feature, ...]:
        return self.model.outputs

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the state buffers."""
        return tuple(self.model.states)

    def predict(self, inputs: Mapping[str, Any], observe: Observe | None = None) -> dict[str, Any]:
        return self.model.predict(inputs, self.state, observe)

    def read_states(self) -> dict[str, Array]:
        """State buffers by name, as the last prediction left them."""
        return {} if self.state is None else {name: self.state[name] for name in self.state}


class MilRuntime:
    """Interprets the package's own program and weights, on any machine."""

    name = "mil"

    def __init__(
        self,
        policy: str = "exact",
        limits: Limits | None = None,
        package_limits: PackageLimits = DEFAULT_LIMITS,
        function: str | None = None,
    ) -> None:
        """See `device_sim.mil.load_mil`, and `Package.open` for `package_limits`."""
        self.function = function
        self.policy = policy
        self.limits = limits
        self.package_limits = package_limits

    def unavailable(self) -> str | None:
        return None

    def load(self, package: Path, states: Mapping[str, Array] | None = None) -> MilModel:
        opened = Package.open(package, self.package_limits)
        return MilModel(load_mil(opened, self.policy, self.limits, self.function), states or {})
