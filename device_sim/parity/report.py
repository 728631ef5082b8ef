"""What a parity run found, as data; `terminal` and `page` show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from personality_common.evidence import claims
from personality_common.evidence.claims import Check
from personality_common.evidence.distances import HISTOGRAM_EDGES, Measures

SCHEMA: Final = 2
"""Of the JSON form, after `parity.schema.json`: greater when a key goes or means something else."""


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
    """`golden`, `texts`, `batch 63`, `hostile: zeros`, …"""
    hostile: bool
    """Whether magnitudes are extreme."""
    feature: str
    measures: Measures

    @property
    def runtimes(self) -> str:
        return pair(self.value, self.reference)


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
        return claims.passed(self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.failed)

    def worst(self) -> tuple[Comparison, ...]:
        """For each package, pair and feature, the inputs that are not hostile and do worst."""
        best: dict[tuple[str, str, str], Comparison] = {}
        for record in self.comparisons:
            key = (record.package, record.runtimes, record.feature)
            if not record.hostile and (key not in best or _max_abs(record) > _max_abs(best[key])):
                best[key] = record
        return tuple(best.values())

    def holds(self, record: Comparison) -> bool:
        """Whether all checks of a comparison's package and pair passed."""
        own = (record.package, record.runtimes)
        return claims.passed(check for check in self.checks if (check.package, check.runtimes) == own)

    def limit(self, record: Comparison) -> float | None:
        """The tolerance of a comparison's greatest difference, if it has one."""
        wanted = (f"{record.feature}.max-abs", record.package, record.runtimes)
        found = (c.limit for c in self.checks if (c.id, c.package, c.runtimes) == wanted)
        return next(found, None)


def pair(value: str, reference: str) -> str:
    """Two runtimes, as checks name them."""
    return f"{value} / {reference}"


def to_json(report: Report) -> dict[str, Any]:
    """As plain JSON: None in place of what is not finite, and no texts, which may be users'."""
    examples = [{k: v for k, v in asdict(e).items() if k != "text"} for e in report.examples]
    record: dict[str, Any] = claims.finite(asdict(report) | {"examples": examples})
    head = {"schema": SCHEMA, "passed": report.passed, "histogram_edges": list(HISTOGRAM_EDGES)}
    return head | record | claims.to_json(report.checks)


def _max_abs(record: Comparison) -> float:
    return record.measures.max_abs or 0.0
