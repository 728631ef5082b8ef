"""What a parity run found, as data; `terminal` and `page` show it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from personality_common.evidence.distances import HISTOGRAM_EDGES, Measures

SCHEMA: Final = 1


@dataclass(frozen=True)
class Check:
    """One row of the verdict.

    Attributes:
        package: file name; "" for the bundle.
        runtimes: `mil / torch`, `mil / golden`, …: the second is the reference; "" for files.
        check: what must hold.
        value, limit: measured, and how far it may go, as text; "" where the check is yes or no.
        passed: whether it holds.
        detail: where and how it does not, or what was looked at.
    """

    package: str
    runtimes: str
    check: str
    value: str
    limit: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class RuntimeStatus:
    """A runtime, and why it took no part (None: it did)."""

    name: str
    what: str
    unavailable: str | None


@dataclass(frozen=True)
class Comparison:
    """One feature of one package, on one set of inputs, between two runtimes."""

    package: str
    value: str
    """Runtime."""
    reference: str
    """Runtime, or `golden`."""
    inputs: str
    """`golden`, `texts`, `batch 63`, `adversarial: zeros`, …"""
    feature: str
    measures: Measures


@dataclass(frozen=True)
class DepthPoint:
    """One op on the way through a package.

    Attributes:
        position: running number of the ops that computed something.
        op, name: type and output, as the program has them.
        layer: of the PyTorch model, where there is one that computes this value.
        shape: of the value.
        rounding: ||float32 - float64|| / ||float64||, interpreted.
        torch: ||float32 - PyTorch|| / ||PyTorch||, where there is a layer.
    """

    position: int
    op: str
    name: str
    layer: str | None
    shape: tuple[int, ...]
    rounding: float
    torch: float | None


@dataclass(frozen=True)
class Example:
    """One of the inputs on which two runtimes differ most.

    Attributes:
        inputs, row: which one; rows count from 0.
        text: None where the inputs are no texts.
        max_abs: of the logits.
        token: where that is.
        values: of both sides there.
        tokens: the top 8 of both sides.
    """

    package: str
    value: str
    reference: str
    inputs: str
    row: int
    text: str | None
    max_abs: float
    token: str
    values: tuple[float, float]
    tokens: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        bundle: path, as given.
        run_fingerprint: of the run that the bundle was made from.
        reference: where PyTorch's weights came from: `run` or `packages`.
        texts: rows of `texts`; None without --data.
    """

    bundle: str
    run_fingerprint: str
    settings: dict[str, str]
    reference: str
    texts: int | None
    runtimes: tuple[RuntimeStatus, ...]
    checks: tuple[Check, ...]
    comparisons: tuple[Comparison, ...]
    depth: dict[str, tuple[DepthPoint, ...]]
    examples: tuple[Example, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


def to_json(report: Report) -> dict[str, Any]:
    """As plain JSON: None in place of what is not finite, and no texts, which may be users'."""
    examples = [{k: v for k, v in asdict(e).items() if k != "text"} for e in report.examples]
    record: dict[str, Any] = _finite(asdict(report) | {"examples": examples})
    head = {"schema": SCHEMA, "passed": report.passed, "histogram_edges": list(HISTOGRAM_EDGES)}
    return head | record


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
