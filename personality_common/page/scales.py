"""Axes: where a value is, and which values are marked; infinity has a place of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_EDGE: Final = 0.12
"""Share of an axis that what lies outside of its range has: 0 on a logarithmic one, and infinities."""
_DIGITS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`.

    Attributes:
        low, high: finite; on a logarithmic axis the powers of ten.
        step: between marked values.
        log: base 10.
        below: room before `low`: for 0 on a logarithmic axis, for -infinity on another.
        above: room after `high`, for infinity.
    """

    low: float
    high: float
    step: float
    log: bool = False
    below: bool = False
    above: bool = False

    def at(self, value: float) -> float:
        """From 0 at the start of the axis to 1 at its end; NaN has no place.

        Raises:
            ValueError: NaN.
        """
        if math.isnan(value):
            raise ValueError("a value on an axis must be a number, got NaN")
        if value == math.inf and self.above:
            return 1 - _EDGE / 4
        if (value <= 0 if self.log else value == -math.inf) and self.below:
            return _EDGE / 4
        first, last = (_EDGE if self.below else 0.0), (1 - _EDGE if self.above else 1.0)
        place = (_power(value) if self.log else value) - self.low
        return first + min(max(place / (self.high - self.low), 0.0), 1.0) * (last - first)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Value and name of what is marked."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        marks = [index * self.step for index in range(first, last + 1)]
        if self.log:
            named = [(10.0**mark, f"10{str(round(mark)).translate(_DIGITS)}") for mark in marks]
        else:
            named = [(mark, _name(mark, self.step)) for mark in marks]
        start = [(0.0, "0") if self.log else (-math.inf, "-∞")] if self.below else []
        return [*start, *named, *([(math.inf, "∞")] if self.above else [])]


def linear(values: Iterable[float], *, exact: bool = False, least_step: float = 0.0) -> Scale:
    """An axis with round numbers around the values.

    Args:
        exact: from the least to the greatest value, and not to the next round ones.
        least_step: between marked values, 1 for counts.
    """
    found = list(values)
    finite = [value for value in found if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    size = max(1.0, abs(low))
    if high - low < 1e-9 * size:
        low, high = low - size / 2, high + size / 2
    raw = max((high - low) / 4, least_step)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * (1 - 1e-9))
    if not exact:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, step, below=-math.inf in found, above=math.inf in found)


def logarithmic(values: Iterable[float]) -> Scale:
    """An axis of powers of ten around the values, none of which is negative."""
    found = list(values)
    powers = [math.log10(value) for value in found if 0 < value < math.inf]
    low = math.floor(min(powers, default=-9.0) + 1e-9)
    high = max(math.ceil(max(powers, default=-6.0) - 1e-9), low + 1)
    return Scale(low, high, math.ceil((high - low) / 8), True, 0.0 in found, math.inf in found)


def _power(value: float) -> float:
    return -math.inf if value <= 0 else math.log10(value)


def _name(tick: float, step: float) -> str:
    """With as many digits as the steps have, so that no two ticks have one name."""
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < 1e-9 * step), None)
    if decimals is None or abs(tick) >= 1e7:
        return f"{tick:.6g}"
    return f"{tick if abs(tick) > step / 2 else 0.0:,.{decimals}f}"
