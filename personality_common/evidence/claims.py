"""What must hold, whether it does, and the figure behind it: the one type of every verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Status = Literal["passed", "failed", "not judged"]
Bound = Literal["<=", ">=", ">"]
SIGNS: Final[dict[Bound, str]] = {"<=": "≤", ">=": "≥", ">": ">"}


@dataclass(frozen=True)
class Check:
    """A claim, and what became of it.

    Attributes:
        id: stable over versions and languages: `logits.max-abs`; with `package` and `runtimes` it is
            unique in a report.
        name: what must hold, for people.
        status: "not judged" where nobody can know; that fails no verdict.
        detail: where and how it does not hold, or what was looked at.
        measured: the figure that decides; None where there is none.
        bound, limit: how far it may go; None where the check is yes or no.
        unit: of both; "" for a plain number.
        package: file name; "" where it is about no single package.
        runtimes: `mil / torch`, `mil / golden`, …: the second is the reference; "" where none took part.
    """

    id: str
    name: str
    status: Status
    detail: str = ""
    measured: float | None = None
    bound: Bound | None = None
    limit: float | None = None
    unit: str = ""
    package: str = ""
    runtimes: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def about(self) -> str:
        """Package and runtimes, for people."""
        return " ".join(filter(None, (self.package.removesuffix(".mlpackage"), self.runtimes)))

    @property
    def figure(self) -> str:
        """What was measured, with its unit; "" where nothing was, or where the name says it: 0 ≤ 0."""
        if self.limit is None and self.measured is None:
            return ""
        if self.passed and self.measured == self.limit == 0:
            return ""
        return f"{self._numbers[0]} {self.unit}".rstrip()

    @property
    def _numbers(self) -> tuple[str, str]:
        return apart(self.measured, self.limit, lambda value: f"{value:,g}")

    @property
    def must(self) -> str:
        """The limit: `≤ 0.0001`; "" where there is none, or where the name says it."""
        if self.limit is None or self.bound is None or not self.figure:
            return ""
        return f"{SIGNS[self.bound]} {self._numbers[1]}"

    @property
    def against(self) -> str:
        """Figure and limit in one: `2.4e-06 ≤ 0.0001`; `0.3, must be ≤ 0.0001`."""
        if not self.must:
            return self.figure
        return f"{self.figure} {self.must}" if self.passed else f"{self.figure}, must be {self.must}"


def claim(
    id: str, name: str, holds: bool, detail: str = "", *, package: str = "", runtimes: str = ""
) -> Check:
    """A check that is yes or no."""
    status: Status = "passed" if holds else "failed"
    return Check(id, name, status, detail, package=package, runtimes=runtimes)


def within(
    id: str,
    name: str,
    measured: float | None,
    bound: Bound,
    limit: float,
    detail: str = "",
    *,
    unit: str = "",
    package: str = "",
    runtimes: str = "",
) -> Check:
    """A check by one figure; a missing one, and NaN, fail it."""
    status: Status = "passed" if measured is not None and holds(measured, bound, limit) else "failed"
    return Check(id, name, status, detail, measured, bound, limit, unit, package, runtimes)


def holds(measured: float, bound: Bound, limit: float) -> bool:
    """Whether a figure is within its limit; NaN never is."""
    if bound == ">":
        return measured > limit
    return measured <= limit if bound == "<=" else measured >= limit


def passed(checks: Iterable[Check]) -> bool:
    """Whether no check failed."""
    return not any(check.failed for check in checks)


def number(value: float | None) -> str:
    """A figure, short: whole ones in full, shares near 1 to six places, others to four digits or fewer."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    if 0.9 <= abs(value) < 1:
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return f"{value:.4g}" if abs(value) >= 0.01 else f"{value:.1e}"


def apart(
    one: float | None, other: float | None, words: Callable[[float], str] | None = None
) -> tuple[str, str]:
    """Two figures that are compared, as `number` has them: where they differ, so that they are seen to.

    Args:
        words: how the other is written, where it needs no more digits.
    """
    shown = number(one), number(other) if other is None or words is None else words(other)
    if one is None or other is None or one == other or not (math.isfinite(one) and math.isfinite(other)):
        return shown
    for digits in range(5, 18):
        if float(_plain(shown[0])) != float(_plain(shown[1])):
            break
        shown = f"{one:.{digits}g}", f"{other:.{digits}g}"
    return shown


def _plain(figure: str) -> str:
    return figure.replace(",", "")


_ROUNDING: Final = 1e-15
"""Of a cosine in float64: a few units in the last place."""


def share(value: float | None) -> str:
    """A share of 1 or a correlation: five places, or as many as tell it from 1; "-" where there is none.

    What eight places do not tell from 1 is written as what is missing: `1-3e-14`; not what rounding does to a
    cosine of equal vectors, on either side of 1.
    """
    if value is None:
        return "-"
    one = value > 1 - _ROUNDING
    places = next((p for p in range(5, 9) if one or float(f"{value:.{p}f}") != 1), None)
    return f"1-{1 - value:.0e}" if places is None else f"{value:.{places}f}"


def to_json(checks: Iterable[Check]) -> dict[str, Any]:
    """As every report has them: `passed`, and a list `checks`, after `checks.schema.json`."""
    found = tuple(checks)
    return {"passed": passed(found), "checks": [finite(asdict(check)) for check in found]}


def finite(value: Any) -> Any:
    """As plain JSON: lists for tuples, None for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
