"""How much memory and time a package may ask for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from personality_common.coreml.limits import SECONDS
from personality_common.errors import DataError

MAX_LINKS: Final = 16
"""Models that link to others, in a row or beside each other."""
WORK_PER_SECOND: Final = 4 * 10**9
"""Multiply-adds that one slow core does. One step is held against it before it starts, since nothing
stops a step that runs."""
ITERATION_WORK: Final = 200_000
"""What one round of a Python loop over a few small arrays takes, in multiply-adds: 50 µs."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one loaded model, checked before anything is allocated; raise one for a package you trust.

    Kernels use a few temporary arrays as large as their largest value, so the process may need
    about three times `value_bytes` beyond `live_bytes`.
    """

    ops: int = 50_000
    """Operations and layers, of all models of a pipeline."""
    value_bytes: int = 1 << 30
    """One value."""
    live_bytes: int = 4 << 30
    """All that is held at a time: constants in their computed form, states, values."""
    seconds: float = SECONDS
    """Loading, and each prediction: the clock is read before every step, and a step that would take
    longer at `WORK_PER_SECOND` is not begun."""


@dataclass
class Budget:
    """What a loaded model has used for as long as it lives; the models of a pipeline share one."""

    limits: Limits
    held: int = 0
    """Bytes of constants and states."""
    ops: int = 0
    links: int = 0

    def add_link(self) -> None:
        """Count a model that links to another; one that links to itself comes to the limit."""
        self.links += 1
        if self.links > MAX_LINKS:
            raise DataError(f"{MAX_LINKS} linked models at most, or a model links to itself")

    def add_ops(self, count: int, what: str) -> None:
        """Count the operations of a program, or the layers of a network, before they are read."""
        self.ops += count
        if self.ops > self.limits.ops:
            raise DataError(f"{self.ops:,} {what}; the limit is {self.limits.ops:,} (Limits.ops)")

    def release(self, nbytes: int) -> None:
        """A state is gone."""
        self.held -= nbytes


@dataclass
class Usage:
    """What loading a model, or one prediction, takes beyond what is held; its clock starts at once."""

    budget: Budget
    live: int = 0
    """Bytes."""
    started: float = field(default_factory=lambda: time.monotonic())

    def check_value(self, elements: int, itemsize: int, what: str) -> None:
        """Refuse a value before it is computed."""
        limits = self.budget.limits
        if elements * itemsize > limits.value_bytes:
            raise DataError(
                f"{what} would have {elements:,} elements of {itemsize} bytes; "
                f"the limit is {limits.value_bytes:,} bytes (Limits.value_bytes)"
            )
        total = self.budget.held + self.live + elements * itemsize
        if total > limits.live_bytes:
            raise DataError(
                f"{what} would bring the values held to {total:,} bytes; "
                f"the limit is {limits.live_bytes:,} (Limits.live_bytes)"
            )

    def spend(self, work: int) -> None:
        """Refuse a step that would take longer than is allowed, and any step after that time.

        Args:
            work: multiply-adds of the step; an element that is merely touched counts as 16.
        """
        seconds = self.budget.limits.seconds
        if work > seconds * WORK_PER_SECOND:
            raise DataError(
                f"it takes {work:,} multiply-adds, {work / WORK_PER_SECOND:.2g} s on a slow core; "
                f"the limit is {seconds:g} s (--max-seconds, Limits.seconds)"
            )
        if (elapsed := time.monotonic() - self.started) > seconds:
            raise DataError(
                f"the time is up after {elapsed:,.1f} s; "
                f"the limit is {seconds:g} s (--max-seconds, Limits.seconds)"
            )
