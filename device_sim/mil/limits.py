"""How much memory and time a program may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from personality_common.errors import DataError


@dataclass(frozen=True)
class Limits:
    """Bounds on one program, checked before anything is allocated; raise one for a package you trust.

    Kernels use a few temporary arrays as large as their largest value, so the process may need
    about three times `value_bytes` beyond `live_bytes`.
    """

    ops: int = 50_000
    """Operations in a program."""
    value_bytes: int = 1 << 30
    """One value."""
    live_bytes: int = 4 << 30
    """All values that are held at a time, constants in their computed form included."""
    work: int = 4 * 10**12
    """Multiply-adds of one prediction; an element that is merely touched counts as 16."""


@dataclass
class Budget:
    """What has been used of the limits."""

    limits: Limits
    live: int = 0
    work: int = 0

    def check_value(self, elements: int, itemsize: int, what: str) -> None:
        """Refuse a value before it is computed."""
        if elements * itemsize > self.limits.value_bytes:
            raise DataError(
                f"{what} would have {elements:,} elements of {itemsize} bytes; "
                f"the limit is {self.limits.value_bytes:,} bytes (Limits.value_bytes)"
            )
        if self.live + elements * itemsize > self.limits.live_bytes:
            raise DataError(
                f"{what} would bring the values held to {self.live + elements * itemsize:,} bytes; "
                f"the limit is {self.limits.live_bytes:,} (Limits.live_bytes)"
            )

    def spend(self, work: int, what: str) -> None:
        """Count work before it is done."""
        self.work += work
        if self.work > self.limits.work:
            raise DataError(
                f"{what} brings the work to {self.work:,} multiply-adds; "
                f"the limit is {self.limits.work:,} (Limits.work)"
            )
