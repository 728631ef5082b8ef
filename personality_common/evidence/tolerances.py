"""How far two runtimes may differ, and why; each family of models has a table of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Tolerance:
    """A bound on one measure.

    Attributes:
        name: unique.
        applies_to: packages' precision (`float32`, `float16`), encoder weights (`encoder-int8`, …),
            or a route (`patch`, …).
        measure: what is measured, of which feature, over what.
        bound: `<=` or `>=`.
        value: the limit.
        reason: where the number comes from.
    """

    name: str
    applies_to: str
    measure: str
    bound: Literal["<=", ">="]
    value: float
    reason: str

    def holds(self, measured: float) -> bool:
        """Whether a measurement is within; NaN never is."""
        return measured <= self.value if self.bound == "<=" else measured >= self.value
