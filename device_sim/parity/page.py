"""The parity report as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from device_sim.parity.report import Comparison, DepthPoint, Example, Report
from device_sim.parity.verdict import GOLDEN
from personality_common.contract import LOGITS
from personality_common.evidence.claims import number, share
from personality_common.evidence.distances import HISTOGRAM_EDGES
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.histogram import histogram
from personality_common.page.html import Content, Html, join, tag
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.tables import Column, Row, facts, mark, meter, table, verdict

MAX_TEXT: Final = 240
"""Characters of an example's text."""
_EDGES: Final = tuple(10.0**edge for edge in HISTOGRAM_EDGES)
_WORDS: Final = (
    ("max, mean |diff|", "over all values"),
    ("relative", "‖difference‖ / ‖reference‖ of the worst row"),
    ("cosine", "of the worst row"),
    ("PSNR", "20 log₁₀((max − min of the reference) / rms difference)"),
    ("top 8", "mean share of the eight greatest logits in common"),
    ("rank", "Spearman’s ρ over all logits, the worst row"),
    ("golden", "the vectors that PyTorch computed at export"),
    ("of limit, in powers of ten", "a scale of powers of ten: full at the limit, empty at a millionth of it"),
)


def page(report: Report, made: Provenance) -> str:
    """A complete HTML document.

    Quotes the texts of worst examples, which are the user's where --data was given.
    """
    good = sum(check.passed for check in report.checks)
    texts = "" if report.texts is None else f", {report.texts} texts"
    sections = [
        kit.heading(
            _headline(report),
            f"{good} of {len(report.checks)} checks passed{texts}",
            passed=report.passed,
        ),
        tag("section", facts(_facts(report)), class_="card"),
    ]
    if report.failures:
        sections.append(kit.card("What failed", verdict(report.failures)))
    sections.append(kit.card("Packages", table(_COLUMNS, _summary(report))))
    if text := [check for check in report.checks if check.id.startswith("text.")]:
        sections.append(kit.card("From a text to the top 8", verdict(text)))
    sections += [_package(report, p) for p in dict.fromkeys(c.package for c in report.checks if c.package)]
    every = tag("details", tag("summary", f"All {len(report.checks)} checks"), verdict(report.checks))
    sections.append(tag("section", every, class_="card"))
    notes: list[Content] = [tag("p", (join(tag("b", word), f" {says}. ") for word, says in _WORDS))]
    if report.texts is not None:
        notes.append(tag("p", tag("b", "This page quotes texts of the data that were given with --data.")))
    state = "passed" if report.passed else "failed"
    return kit.page(f"Parity {state}: {_name(report)}", *sections, made=made, notes=notes)


def _headline(report: Report) -> str:
    if report.passed:
        return "Parity holds"
    first, more = report.failures[0], len(report.failures) - 1
    about = f"{first.about}: {first.name}" if first.about else first.name
    return f"Parity fails: {about}" + (f", and {more} more" if more else "")


def _name(report: Report) -> str:
    return Path(report.bundle).name or report.bundle


def _title(package: str) -> str:
    return package.removesuffix(".mlpackage")


def _facts(report: Report) -> Iterator[tuple[str, Content]]:
    yield "bundle", _name(report)
    yield "made from run", tag("code", f"{report.run_fingerprint[:16]}…")
    settings = (f"{key.replace('_', ' ')} {value}" for key, value in report.settings.items())
    yield "exported for", ", ".join(settings)
    for runtime in report.runtimes:
        used = runtime.unavailable is None
        state = tag("span", "used" if used else "left out", class_="ok" if used else "mute")
        yield runtime.name, (state, f": {runtime.unavailable or runtime.what}")


_COLUMNS: Final = (
    Column("", "word"),
    *(Column(name, "word") for name in ("package", "runtimes", "feature")),
    Column("max |diff|"),
    Column("of limit, in powers of ten", "word"),
    *(Column(name) for name in ("mean |diff|", "relative", "cosine", "PSNR dB", "top 8", "rank")),
)


def _summary(report: Report) -> Iterator[Row]:
    for record in report.worst():
        measures, limit, holds = record.measures, report.limit(record), report.holds(record)
        yield (
            "" if holds else "failed",
            [
                mark("passed" if holds else "failed"),
                _title(record.package), record.runtimes, record.feature,
                number(measures.max_abs), None if limit is None else meter(_greatest(record), limit, holds),
                number(measures.mean_abs), number(measures.relative), _share(measures.cosine),
                "equal" if measures.max_abs == 0 else number(measures.psnr),
                _share(measures.top8), _share(measures.rank),
            ],
        )  # fmt: skip


def _greatest(record: Comparison) -> float:
    """The greatest difference: infinite where only one side is finite."""
    found = record.measures.max_abs
    return math.inf if found is None else found


def _share(value: float | None) -> str:
    return "" if value is None else share(value)


def _package(report: Report, package: str) -> Html:
    own = [r for r in report.comparisons if r.package == package and not r.hostile]
    features = {r.feature for r in own}
    feature = LOGITS if LOGITS in features else min(features, default="")
    own = [r for r in own if r.feature == feature]
    own = [r for r in own if r.reference != GOLDEN] or own
    pairs = dict.fromkeys(r.runtimes for r in own)
    charts = [_differences(report, [r for r in own if r.runtimes == pair]) for pair in pairs]
    points = report.depth.get(package, ())
    examples = [e for e in report.examples if e.package == package]
    return kit.card(
        _title(package),
        kit.columns(charts),
        _depth(points) if len(points) > 1 else None,
        tag("h3", "Inputs that differ most") if examples else None,
        map(_example, examples),
    )


def _differences(report: Report, records: Sequence[Comparison]) -> Html:
    """Of one pair of runtimes, over all inputs that are not hostile."""
    first, limit = records[0], report.limit(records[0])
    return histogram(
        f"|difference| of {first.feature}, {first.value} against {first.reference}",
        _EDGES,
        [sum(column) for column in zip(*(r.measures.histogram for r in records), strict=True)],
        x=f"|difference| of {first.feature}",
        unit="values",
        zero=sum(r.measures.equal for r in records),
        limit=None if limit is None else Limit("limit", limit),
    )


def _depth(points: Sequence[DepthPoint]) -> Html:
    tips = []
    for p in points:
        against = "" if p.torch is None else f"; against PyTorch's {p.layer} {p.torch:.1e}"
        tips.append(
            f"{p.position}: {p.op} %{p.name} {list(p.shape)}; against float64 {p.rounding:.1e}{against}"
        )
    torch = [math.nan if p.torch is None else p.torch for p in points]
    return line_chart(
        "Relative error by depth, on golden inputs",
        [
            Series("rounding: declared precision against float64", [p.rounding for p in points], tips=tips),
            Series("against the PyTorch layer that computes the same", torch, tips=tips),
        ],
        x="op, in the order of the program",
        y="‖difference‖ / ‖reference‖",
        log=True,
        names=[p.layer if p.layer and p.torch is not None else p.op for p in points],
    )


def _example(e: Example) -> Html:
    text = f"input {e.row} of {e.inputs}" if e.text is None else e.text
    return kit.example(
        text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…",
        (e.value, _chips(*e.tokens)),
        (e.reference, _chips(*reversed(e.tokens))),
        detail=f"{e.inputs}, row {e.row}: logits of {e.token} differ by {number(e.max_abs)},"
        f" {e.values[0]:.6g} against {e.values[1]:.6g}",
    )


def _chips(own: Sequence[str], other: Sequence[str]) -> list[Html]:
    return [kit.chip(token, "" if token in other else "lost") for token in own]
