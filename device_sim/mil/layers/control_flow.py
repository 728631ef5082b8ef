"""Branches and loops of neural networks, whose layers write to the names around them.

Source: `BranchLayerParams` and `LoopLayerParams` of NeuralNetwork.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from device_sim.mil.layers.layer import integers, scalar
from device_sim.mil.limits import ITERATION_WORK, Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.step import Step, execute
from device_sim.mil.types import Array
from personality_common.errors import DataError

CONTROL: Final = ("branch", "loop", "loopBreak", "loopContinue")
_TRUE: Final = 1e-6
"""A condition holds if it is larger, either way."""


@dataclass(frozen=True, slots=True)
class Jump:
    """`loopBreak`, or `loopContinue`."""

    where: str
    leaves: bool


@dataclass(frozen=True, slots=True)
class Branch:
    where: str
    condition: int
    """A slot, as all values here."""
    yes: Block
    no: Block


@dataclass(frozen=True, slots=True)
class Loop:
    where: str
    condition: Block
    tested: int | None
    """What `condition` computes; None: there is none."""
    body: Block
    most: int | None
    """Rounds; None: as long as the condition holds."""
    most_given: int | None
    """Or the slot of their number."""


Item: TypeAlias = Step | Branch | Loop | Jump
Block: TypeAlias = tuple[Item, ...]


def controlled(
    item: Item, entering: Sequence[int], leaving: Sequence[tuple[str, int]], policy: Policy
) -> Callable[..., tuple[Array, ...]]:
    """A kernel that runs a branch or a loop with all that is in it.

    Args:
        entering: slots for its inputs, in order.
        leaving: names and slots of what it gives.
    """

    def run(inputs: tuple[Array, ...], usage: Usage) -> tuple[Array, ...]:
        before = usage.live
        state = _Running(policy, usage, dict(zip(entering, inputs, strict=True)))
        try:
            jump = state.run((item,))
            if jump is not None:
                raise DataError(f"{jump.where}: it is in no loop")
            return tuple(state.read(slot, f"output {name[:80]!r}") for name, slot in leaving)
        finally:
            usage.live = before

    return run


class _Running:
    """Values by slot, while layers write to them."""

    def __init__(self, policy: Policy, usage: Usage, values: dict[int, Array]) -> None:
        self._policy, self._usage, self._values = policy, usage, values

    def read(self, slot: int, what: str) -> Array:
        if slot not in self._values:
            raise DataError(f"{what} is not computed on the way that was taken")
        return self._values[slot]

    def run(self, block: Block) -> Jump | None:
        """Run the layers in order, up to the first jump out of them."""
        for item in block:
            jump: Jump | None = None
            if isinstance(item, Step):
                self._step(item)
            elif isinstance(item, Branch):
                condition = abs(scalar(self.read(item.condition, f"{item.where}: its condition")))
                jump = self.run(item.yes if condition > _TRUE else item.no)
            elif isinstance(item, Loop):
                self._loop(item)
            else:
                jump = item
            if jump is not None:
                return jump
        return None

    def _step(self, step: Step) -> None:
        for slot, name in zip(step.slots, step.inputs, strict=True):
            self.read(slot, f"{step.where}: its input {name[:80]!r}")
        results = execute(step, self._values, {}, self._policy, self._usage)
        for output, value in zip(step.outputs, results, strict=True):
            old = self._values.get(output.slot)
            self._usage.live += value.nbytes - (0 if old is None else old.nbytes)
            self._values[output.slot] = value

    def _loop(self, loop: Loop) -> None:
        """Every round counts as work and looks at the clock, so an endless loop ends with an error."""
        most = loop.most
        if loop.most_given is not None:
            given = self.read(loop.most_given, f"{loop.where}: its number of rounds")
            most = int(integers(given.reshape(-1)[:1])[0]) if given.size == 1 else -1
            if most < 0:
                raise DataError(f"{loop.where}: a number of rounds is expected, got {list(given.shape)}")
        rounds = 0
        while True:
            try:
                self._usage.spend(ITERATION_WORK)
            except DataError as error:
                raise DataError(f"{loop.where}, round {rounds}: {error}") from error
            if loop.tested is not None:
                if (jump := self.run(loop.condition)) is not None:
                    raise DataError(f"{jump.where}: it is in the condition of a loop")
                if not abs(scalar(self.read(loop.tested, f"{loop.where}: its condition"))) > _TRUE:
                    return
            if most is not None and rounds >= most:
                return
            jump = self.run(loop.body)
            if jump is not None and jump.leaves:
                return
            rounds += 1
