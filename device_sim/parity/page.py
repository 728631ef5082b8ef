"""The parity report as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Final

from device_sim.parity.charts import depth_plot, headroom, histogram
from device_sim.parity.report import Check, Comparison, Example, Report
from device_sim.parity.verdict import GOLDEN, figure
from personality_common.contract import LOGITS
from personality_common.evidence.distances import HISTOGRAM_EDGES

STYLE: Final = Path(__file__).with_name("page.css")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
MAX_TEXT: Final = 240
"""Characters of an example's text."""


def page(report: Report) -> str:
    """A complete HTML document: no scripts, nothing loaded from elsewhere, everything escaped.

    Quotes the texts of worst examples, which are the user's where --data was given.
    """
    state = "passed" if report.passed else "failed"
    body = "\n".join(
        (
            _header(report, state),
            _failures(report),
            _summary(report),
            *(_package(report, package) for package in _packages(report)),
            _all_checks(report),
            _footer(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>Parity {state}: {escape(_name(report))}</title>\n"
        f"<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _name(report: Report) -> str:
    return Path(report.bundle).name or report.bundle


def _header(report: Report, state: str) -> str:
    word = "Parity holds" if report.passed else "Parity fails"
    good = sum(check.passed for check in report.checks)
    texts = f", {report.texts} texts" if report.texts is not None else ""
    runtimes = "".join(
        f'<tr><th>{escape(r.name)}</th><td class="{"used" if r.unavailable is None else "unused"}">'
        f"{'used' if r.unavailable is None else 'left out'}</td>"
        f"<td>{escape(r.unavailable or r.what)}</td></tr>"
        for r in report.runtimes
    )
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in report.settings.items())
    return (
        f'<header class="{state}"><h1>{word}</h1>'
        f"<p>{good} of {len(report.checks)} checks passed{texts}</p></header>"
        f'<section><table class="plain"><tr><th>bundle</th><td colspan="2">{escape(_name(report))}</td></tr>'
        '<tr><th>made from run</th><td colspan="2"><code>'
        f"{escape(report.run_fingerprint[:16])}…</code></td></tr>"
        f'<tr><th>exported for</th><td colspan="2">{escape(settings)}</td></tr>{runtimes}</table></section>'
    )


def _failures(report: Report) -> str:
    if report.passed:
        return ""
    items = "".join(
        f"<li><b>{escape(_where(check))}</b> {escape(check.check)}"
        + (f" is <b>{escape(check.value)}</b>, must be {escape(check.limit)}" if check.limit else "")
        + f'<p class="detail">{escape(check.detail)}</p></li>'
        for check in report.failures
    )
    return f'<section class="failures"><h2>What failed</h2><ul>{items}</ul></section>'


def _where(check: Check) -> str:
    package = check.package.removesuffix(".mlpackage") or "bundle"
    return f"{package}, {check.runtimes}:" if check.runtimes else f"{package}:"


def _title(package: str) -> str:
    return escape(package.removesuffix(".mlpackage") or "bundle")


def _packages(report: Report) -> list[str]:
    return list(dict.fromkeys(check.package for check in report.checks if check.package))


def _summary(report: Report) -> str:
    rows: list[str] = []
    previous = ""
    for record in _worst(report):
        new, previous = record.package != previous, record.package
        measures = record.measures
        pair = f"{record.value} / {record.reference}"
        own = [c for c in report.checks if c.package == record.package and c.runtimes == pair]
        passed = all(check.passed for check in own)
        limit = _limit(report, record)
        meter = headroom(measures.max_abs or 0.0, limit) if limit else ""
        psnr = "equal" if measures.max_abs == 0 else figure(measures.psnr)
        cells = [figure(measures.mean_abs), figure(measures.relative), _share(measures.cosine), psnr]
        cells += [_share(measures.top8), _share(measures.rank)]
        rows.append(
            f'<tr class="{"" if passed else "bad"}"><td>{_title(record.package) if new else ""}</td>'
            f'<td class="w">{escape(pair)}</td><td>{escape(record.feature)}</td>'
            f'<td class="n">{figure(measures.max_abs)}</td><td>{meter}</td>'
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + f'<td class="{"ok" if passed else "no"}">{"passed" if passed else "failed"}</td></tr>'
        )
    heads = ["package", "runtimes", "feature", "max |diff|", "of limit", "mean |diff|", "relative", "cosine"]
    heads += ["PSNR dB", "top 8", "rank", ""]
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        '<section><h2>Packages</h2><div class="scroll"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _worst(report: Report) -> Iterator[Comparison]:
    best: dict[tuple[str, str, str, str], Comparison] = {}
    for record in _plain(report.comparisons):
        key = (record.package, record.value, record.reference, record.feature)
        if key not in best or (record.measures.max_abs or 0) > (best[key].measures.max_abs or 0):
            best[key] = record
    yield from best.values()


def _plain(comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
    yield from (record for record in comparisons if not record.inputs.startswith("hostile"))


def _limit(report: Report, record: Comparison) -> float | None:
    """The tolerance of a comparison's greatest difference, if it has one."""
    pair = f"{record.value} / {record.reference}"
    for check in report.checks:
        own = (check.package, check.runtimes) == (record.package, pair)
        if own and check.check == f"{record.feature}: max |difference|":
            return float(check.limit.split()[-1])
    return None


def _package(report: Report, package: str) -> str:
    parts = [f"<h2>{_title(package)}</h2>"]
    features = {r.feature for r in report.comparisons if r.package == package}
    feature = LOGITS if LOGITS in features else next(iter(sorted(features)), "")
    for value, reference in _pairs(report, package):
        own = [
            record
            for record in _plain(report.comparisons)
            if (record.package, record.value, record.reference, record.feature)
            == (package, value, reference, feature)
        ]
        counts = [sum(column) for column in zip(*(r.measures.histogram for r in own), strict=True)]
        chart = histogram(
            counts or [0] * (len(HISTOGRAM_EDGES) - 1),
            sum(r.measures.equal for r in own),
            _limit(report, own[0]) if own else None,
        )
        parts.append(
            f"<figure>{chart}<figcaption>|difference| of {escape(feature)}, {escape(value)} against "
            f"{escape(reference)}, all inputs that are not hostile</figcaption></figure>"
        )
    if len(points := report.depth.get(package, ())) > 1:
        parts.append(
            f"<figure>{depth_plot(points)}<figcaption>Relative error by depth on golden inputs: "
            '<span class="key rounding">●</span> interpreted in the declared precision against float64 '
            '(rounding), <span class="key torch">◆</span> against the PyTorch layer that computes the '
            "same value</figcaption></figure>"
        )
    examples = [e for e in report.examples if e.package == package]
    if examples:
        parts.append(_examples(examples))
    return f'<section class="package">{"".join(parts)}</section>'


def _pairs(report: Report, package: str) -> list[tuple[str, str]]:
    found = [(r.value, r.reference) for r in report.comparisons if r.package == package]
    pairs = list(dict.fromkeys(found))
    return [pair for pair in pairs if pair[1] != GOLDEN] or pairs


def _examples(examples: list[Example]) -> str:
    rows = []
    for e in examples:
        text = f"input {e.row} of {e.inputs}" if e.text is None else e.text
        shown = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
        left = " ".join(_token(token, e.tokens[1]) for token in e.tokens[0])
        right = " ".join(_token(token, e.tokens[0]) for token in e.tokens[1])
        rows.append(
            f'<tr><td>{escape(shown)}<p class="detail">{escape(e.inputs)}, row {e.row}</p></td>'
            f'<td class="n">{figure(e.max_abs)}<p class="detail">{escape(e.token)}: {e.values[0]:.6g} / '
            f'{e.values[1]:.6g}</p></td><td class="tokens"><p><i>{escape(e.value)}</i> {left}</p>'
            f"<p><i>{escape(e.reference)}</i> {right}</p></td></tr>"
        )
    return (
        "<h3>Inputs that differ most</h3><table><thead><tr><th>text</th><th>|difference|</th>"
        f"<th>top 8</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _token(token: str, other: tuple[str, ...]) -> str:
    return f'<span class="token{"" if token in other else " alone"}">{escape(token)}</span>'


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _all_checks(report: Report) -> str:
    rows = "".join(
        f'<tr class="{"" if c.passed else "bad"}"><td>{_title(c.package)}</td>'
        f"<td>{escape(c.runtimes)}</td><td>{escape(c.check)}</td>"
        f'<td class="n">{escape(c.value)}</td><td class="n">{escape(c.limit)}</td>'
        f'<td class="{"ok" if c.passed else "no"}">{"passed" if c.passed else "failed"}</td>'
        f'<td class="detail">{escape(c.detail)}</td></tr>'
        for c in report.checks
    )
    heads = "".join(f"<th>{n}</th>" for n in ("package", "runtimes", "check", "value", "limit", "", "where"))
    return (
        f"<section><details><summary>All {len(report.checks)} checks</summary>"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</details></section>"
    )


def _footer(report: Report) -> str:
    private = (
        "<p><b>This page quotes texts of the data that were given with --data.</b></p>"
        if report.texts is not None
        else ""
    )
    return (
        "<footer>"
        f"{private}<p><b>max, mean |diff|</b> over all values. <b>relative</b> ‖difference‖ / ‖reference‖ of "
        "the worst row. <b>cosine</b> of the worst row. <b>PSNR</b> 20 log₁₀((max − min of the reference) / "
        "rms difference). <b>top 8</b> mean share of the eight greatest logits in common. <b>rank</b> "
        "Spearman’s ρ over all logits, the worst row. <b>golden</b> are the vectors that PyTorch computed "
        "at export. <b>of limit</b> is a scale of powers of ten: full at the limit, empty at a millionth "
        "of it.</p></footer>"
    )
