"""Run a loaded program: one loop over its steps, rounding and records in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from device_sim.mil.limits import Budget, Limits
from device_sim.mil.numerics import Policy
from device_sim.mil.program import Program
from device_sim.mil.state import State, StateBuffer
from device_sim.mil.step import Step, execute
from device_sim.mil.types import Array
from personality_common.errors import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """A value that was computed."""

    position: int
    """Of the operation in the program, or of the layer in the network."""
    op: str
    """Its type: `linear`."""
    name: str
    """The output."""
    value: Array
    """Read-only."""
    model: str = ""
    """Name of the submodel in a pipeline."""


Observe: TypeAlias = Callable[[Record], None]


class Evaluator:
    """Runs a program under one policy.

    Values are kept in the declared type (or the policy's), read-only, and dropped after their
    last use. Each step's arguments are widened, and its results rounded, in `execute`.
    """

    def __init__(self, program: Program, policy: Policy, limits: Limits) -> None:
        self.program = program
        self.policy = policy
        self.limits = limits
        self._steps = {output.name: step for step in program.steps for output in step.outputs}

    def run(
        self, inputs: Mapping[str, Array], state: State | None = None, observe: Observe | None = None
    ) -> dict[str, Array]:
        """Evaluate the whole program.

        Args:
            inputs: by the names of the program's inputs, in their declared types.
            state: needed if the program has states; may be written to.
            observe: called with each value as it is computed.

        Returns:
            The program's outputs, in the types that the policy keeps.

        Raises:
            DataError: see `device_sim.mil.step.execute`.
        """
        program, policy = self.program, self.policy
        budget = Budget(self.limits, live=program.constant_bytes)
        table: list[Array | None] = [None] * program.slots
        for name, declared in program.inputs.items():
            value = self._enter(name, inputs[name])
            table[declared.slot] = value
            budget.live += value.nbytes
        states = self._states(state)

        def fetch(slot: int) -> Array:
            value = table[slot]
            assert value is not None, "the loader orders definitions before uses"
            return value

        with np.errstate(all="ignore"):
            for step in program.steps:
                values = execute(step, fetch, states, policy, budget)
                for output, value in zip(step.outputs, values, strict=True):
                    table[output.slot] = value
                    budget.live += value.nbytes
                    if observe is not None:
                        observe(Record(step.position, step.op.name, output.name, value))
                for slot in step.frees:
                    budget.live -= fetch(slot).nbytes
                    table[slot] = None
        return {
            name: fetch(source) if isinstance(source, int) else source
            for name, source in program.outputs.items()
        }

    def step(self, name: str) -> Step:
        """The step that computes the value of this name.

        Raises:
            DataError: none does.
        """
        try:
            return self._steps[name]
        except KeyError:
            raise DataError(f"no operation of the program computes %{name[:80]}") from None

    def run_step(
        self, step: Step, values: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """Evaluate one step alone, on values from elsewhere (another policy, another package).

        Args:
            values: by name, all of `step.inputs`; they are first rounded to what this policy
                keeps, as if this program had computed them.
        """
        slots = {source: name for name, source in zip(step.inputs, _slots(step), strict=True)}
        budget = Budget(self.limits, live=self.program.constant_bytes)

        def fetch(slot: int) -> Array:
            name = slots[slot]
            if name not in values:
                raise DataError(f"the value of its input %{name[:80]} is not given")
            return self._enter(name, values[name])

        with np.errstate(all="ignore"):
            results = execute(step, fetch, self._states(state), self.policy, budget)
        return {output.name: value for output, value in zip(step.outputs, results, strict=True)}

    def _enter(self, name: str, value: Array) -> Array:
        """A value from outside, in the type that the policy keeps for the declared one."""
        declared = self._declared(name)
        with np.errstate(all="ignore"):
            entered = np.asarray(value).astype(self.policy.kept(declared), copy=False).view()
        entered.flags.writeable = False
        return entered

    def _declared(self, name: str) -> np.dtype[np.generic]:
        if name in self.program.inputs:
            return self.program.inputs[name].type.dtype
        outputs = {output.name: output for output in self.step(name).outputs}
        return outputs[name].type.dtype

    def _states(self, state: State | None) -> dict[str, StateBuffer]:
        if not self.program.states:
            return {}
        if state is None:
            raise DataError(
                f"the model has states ({', '.join(self.program.states)}): pass one from new_state()"
            )
        return dict(state.buffers)


def _slots(step: Step) -> list[int]:
    return list(dict.fromkeys(s for _, sources in step.dynamic for s in sources if isinstance(s, int)))
