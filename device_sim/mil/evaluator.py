"""Run a loaded program: one loop over its steps, rounding and records in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from device_sim.mil.limits import Budget, Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.program import Program
from device_sim.mil.state import State, StateBuffer
from device_sim.mil.step import Step, advance, execute
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

    def __init__(self, program: Program, policy: Policy, budget: Budget) -> None:
        self.program = program
        self.policy = policy
        self.budget = budget
        self._steps = {output.name: step for step in program.steps for output in step.outputs}
        made = (output for step in program.steps for output in step.outputs)
        self.declared = {value.slot: value.type.dtype for value in (*program.inputs.values(), *made)}
        """Type by slot, of all values but those of nested blocks."""
        self.unseen = policy.widely if np.dtype(np.float16) in self.declared.values() else policy
        """The policy for values that nobody looks at."""

    def start(
        self, inputs: Mapping[str, Array], state: State | None = None, usage: Usage | None = None
    ) -> Evaluation:
        """Begin an evaluation, no step of it computed.

        Args:
            inputs: by the names of the program's inputs, in their declared types.
            state: needed if the program has states; may be written to.
            usage: what is counted against the limits; None: from here on.
        """
        return Evaluation(self, inputs, self._states(state), usage or Usage(self.budget))

    def run(
        self, inputs: Mapping[str, Array], state: State | None = None, observe: Observe | None = None
    ) -> dict[str, Array]:
        """Evaluate the whole program.

        Args:
            inputs, state: as for `start`.
            observe: called with each value as it is computed.

        Returns:
            The program's outputs, in the types that the policy keeps.

        Raises:
            DataError: see `device_sim.mil.step.execute`.
        """
        evaluation = self.start(inputs, state)
        evaluation.finish(observe)
        return evaluation.outputs()

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
        self,
        step: Step,
        values: Mapping[str, Array],
        state: State | None = None,
        usage: Usage | None = None,
    ) -> dict[str, Array]:
        """Evaluate one step alone, on values from elsewhere (another policy, another package).

        Args:
            values: by name, all of `step.inputs`; they are first rounded to what this policy
                keeps, as if this program had computed them.
            usage: what is counted against the limits; None: this step alone.
        """
        entered = {}
        for slot, name in zip(step.slots, step.inputs, strict=True):
            if name not in values:
                raise DataError(f"{step.where}: the value of its input %{name[:80]} is not given")
            entered[slot] = self.enter(name, values[name])
        usage = usage or Usage(self.budget)
        with np.errstate(all="ignore"):
            results = execute(step, entered, self._states(state), self.policy, usage)
        return {output.name: value for output, value in zip(step.outputs, results, strict=True)}

    def enter(self, name: str, value: Array) -> Array:
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


class Evaluation:
    """A program under way: the values that are still needed."""

    def __init__(
        self,
        evaluator: Evaluator,
        inputs: Mapping[str, Array],
        states: Mapping[str, StateBuffer],
        usage: Usage,
    ) -> None:
        self.usage = usage
        self._evaluator = evaluator
        self._program = evaluator.program
        self._policy = evaluator.policy
        self._states = states
        self._values: dict[int, Array] = {}
        """By slot."""
        for name, declared in self._program.inputs.items():
            value = evaluator.enter(name, inputs[name])
            self._values[declared.slot] = value
            usage.live += value.nbytes

    def entered(self, name: str) -> Array:
        """An input of the program, before the first step."""
        return self._values[self._program.inputs[name].slot]

    def finish(self, observe: Observe | None = None) -> None:
        """Compute all steps."""
        with np.errstate(all="ignore"):
            for step in self._program.steps:
                if observe is None:
                    advance(step, self._values, self._states, self._evaluator.unseen, self.usage)
                else:
                    values = self.advance(step)
                    for output, value in zip(step.outputs, values, strict=True):
                        observe(Record(step.position, step.op.name, output.name, value))

    def advance(self, step: Step) -> list[Array]:
        """Compute the next step, and drop what nobody reads after it; under `np.errstate` of the caller's."""
        return advance(step, self._values, self._states, self._policy, self.usage)

    def read(self, step: Step) -> dict[str, Array]:
        """The values that a step reads, before it is computed."""
        return {name: self._values[slot] for slot, name in zip(step.slots, step.inputs, strict=True)}

    def outputs(self) -> dict[str, Array]:
        """The program's outputs, after the last step, in the types that the policy keeps."""
        return {
            name: self._narrow(source) if isinstance(source, int) else source
            for name, source in self._program.outputs.items()
        }

    def _narrow(self, slot: int) -> Array:
        """A value, read-only, in the type that the policy keeps: the same numbers where it was kept wide."""
        value, declared = self._values[slot], self._evaluator.declared.get(slot)
        if declared is None or value.dtype == (kept := self._policy.kept(declared)):
            return value
        narrow = value.astype(kept)
        narrow.flags.writeable = False
        return narrow
