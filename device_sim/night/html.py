"""Nights as one page, which has a user's own texts: it is for them alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from device_sim.night.rendering import gain_of, head_lines, head_outcome, interval, night_lines
from device_sim.night.report import Answered, Report, outcome
from device_sim.night.state import Night, SetFigures
from personality_common.evidence.claims import number
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.html import Content, Html, tag
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.tables import Column, facts, table, verdict
from personality_common.printable import counted

_WHAT: Final = {
    "target": "held out tonight, nats a token",
    "earlier": "held out by an earlier night, nats a token",
    "general": "prompts of nobody's, nats a token",
    "personal": "facts asked in words that were not trained, share right",
    "remembered": "the same beside the memory, share right",
    "unasked": "questions near to them that they do not answer: share without them",
    "wording": "answers given to what was held out, chrF",
    "topic": "answers given to what was held out, cosine to what was said",
    "capability": "tasks, share right",
    "style": "probes, share right",
    "safety": "probes, share right",
}


def page(report: Report, made: Provenance) -> str:
    """The page, as HTML."""
    night = report.night
    title = f"{len(report.nights)} night{'s' if len(report.nights) != 1 else ''} of {report.store.name}"
    if night is None:
        nothing = kit.card("No night yet", kit.note("pt night run lives the first."))
        return kit.page(title, kit.heading(title), nothing, made=made)
    word = outcome(night) + (f", head {head_outcome(night)}" if night.head else "")
    sections = [
        kit.heading(f"Night {night.number}: {word}", _subtitle(night), passed=_passed(night)),
        *_decision(report, night),
        *_head(report.nights, night),
        *_trend(report.nights),
        *_sets(night),
        *_tasks(report),
        *_examples(report),
        _data(night),
        *_augmented(report, night),
        _cost(night),
        _all(report),
    ]
    notes = tag("p", "This page quotes what you said, and what was answered. Nobody else should have it.")
    return kit.page(f"{title}: {word}", *sections, made=made, notes=notes)


def _passed(night: Night) -> bool | None:
    return night.accepted if night.step == "done" and night.judged else None


def _subtitle(night: Night) -> str:
    when = night.began.replace("T", " ").replace("+00:00", " UTC")
    return (
        f"{when}; {night.settings.model}, seed {night.settings.seed}; active since: {night.activated or '–'}"
    )


def _decision(report: Report, night: Night) -> Iterator[Html]:
    lines = [line.strip() for line in night_lines(night)]
    content: list[Content] = [tag("ul", (tag("li", line) for line in lines))]
    if night.checks:
        content.append(verdict(night.checks))
    yield kit.card("Decision", *content)
    if report.unclean:
        yield kit.card(
            "Forgotten",
            kit.note(
                "These versions learned from turns that were forgotten since; once a night has passed, none"
                " of them can be activated."
            ),
            tag("p", (kit.chip(version, "lost") for version in report.unclean)),
        )


def _head(nights: Sequence[Night], night: Night) -> Iterator[Html]:
    """The head's part of the night, and the wealth of its gate night by night."""
    head = night.head
    if head is None:
        return
    items = (tag("li", line.strip()) for line in head_lines(night))
    rows: list[tuple[str, Content]] = [
        ("reactions", f"{head.reactions} of {counted(head.nights, 'night')}, {len(head.new)} of them new"),
        ("wealth of the gate", number(head.wealth)),
        ("mean reward tonight", "–" if head.rewards is None else f"{head.rewards:+.2f}"),
        ("compared with", head.baseline),
        ("active since", head.activated or "–"),
    ]
    if head.more or head.less:
        rows += [
            ("top 8 in common with the shipped head", f"{head.overlap:.3f} ± {head.error:.3f}"),
            (
                "likelier than as shipped",
                tag("div", (kit.chip(token, "won") for token in head.more), class_="chips"),
            ),
            ("less likely", tag("div", (kit.chip(token, "lost") for token in head.less), class_="chips")),
        ]
    rows += [(f"left out: {why}", str(count)) for why, count in head.left_out.items()]
    lived = [one.head for one in nights if one.head is not None]
    chart = []
    if len(lived) > 1:
        wealth = [math.log10(max(one.wealth, 1.0)) for one in lived]
        series = [Series("wealth, powers of ten", wealth, first=1)]
        enough = next((c.limit for c in head.checks if c.id == "head.gate" and c.limit), None)
        limits = [Limit("opens the gate", round(math.log10(enough), 2))] if enough else []
        chart.append(line_chart("Evidence", series, limits, x="night with reactions", y="powers of ten"))
    yield kit.card("The head", tag("ul", items), verdict(head.checks), facts(rows), *chart)


def _trend(nights: Sequence[Night]) -> Iterator[Html]:
    judged = [night for night in nights if night.sets]
    if len(judged) < 2:
        return
    charts = [
        _series("Gain on what was held out that night", judged, "target", "nats a token", gain=True),
        _series("Tasks of the suite", judged, "capability", "share right"),
        _series("Prompts of nobody's", judged, "general", "nats a token", gain=True),
        _tokens(judged),
    ]
    yield kit.card("Night by night", kit.columns(chart for chart in charts if chart))


def _series(title: str, nights: Sequence[Night], kind: str, y: str, gain: bool = False) -> Html | None:
    found = [_one(night, kind) for night in nights]
    if not any(found):
        return None
    tips = [f"night {night.number}, {outcome(night)}" for night in nights]
    nan = math.nan
    if gain:
        values = [one.gain if one else nan for one in found]
        low = [v if one is None or one.low is None else one.low for one, v in zip(found, values, strict=True)]
        high = [
            v if one is None or one.high is None else one.high for one, v in zip(found, values, strict=True)
        ]
        band = None if any(map(math.isnan, (*low, *high))) else (low, high)
        series = [Series("mean gain (95%)", values, first=1, band=band, tips=tips)]
        return line_chart(title, series, [Limit("no change", 0.0)], x="judged night", y=y)
    series = [
        Series("what was in use", [one.before if one else nan for one in found], first=1),
        Series("the candidate", [one.after if one else nan for one in found], first=1, tips=tips),
    ]
    return line_chart(title, series, x="judged night", y=y)


def _tokens(nights: Sequence[Night]) -> Html:
    values = [night.training.tokens / 1000 if night.training else math.nan for night in nights]
    return line_chart(
        "Tokens trained", [Series("thousands", values, first=1)], x="judged night", y="thousands"
    )


def _one(night: Night, kind: str) -> SetFigures | None:
    return next((one for one in night.sets if one.kind == kind), None)


def _sets(night: Night) -> Iterator[Html]:
    if not night.sets:
        return
    columns = [Column("set", "word"), *map(Column, ("n", "before", "after", "gain", "95%"))]
    columns.append(Column("what it is", "long"))
    rows = [
        (
            "",
            [one.name, str(one.n), f"{one.before:.3f}", f"{one.after:.3f}", f"{one.gain:+.3f}", interval(one),
             _WHAT[one.kind]],
        )
        for one in night.sets
    ]  # fmt: skip
    note = kit.note("Higher is better everywhere: log-probabilities, and shares. Before: what was in use.")
    yield kit.card("Before and after", note, table(columns, rows))  # type: ignore[arg-type]


def _tasks(report: Report) -> Iterator[Html]:
    for title, tasks in (("lost", report.lost), ("won", report.won)):
        if tasks:
            columns = [
                Column("task", "word"),
                *(Column(name, "long") for name in ("prompt", "before", "after")),
            ]
            rows = [("", [t.name, t.prompt, t.before, t.after]) for t in tasks]
            yield kit.card(f"Tasks {title}: {len(tasks)}", table(columns, rows))  # type: ignore[arg-type]


def _examples(report: Report) -> Iterator[Html]:
    if report.removed:
        yield kit.card(
            "Examples",
            kit.note("Removed: something that this night saw was forgotten, and may be in any of them."),
        )
    elif report.examples:
        note = kit.note("Messages that no night trained on, answered greedily before and after.")
        yield kit.card("Examples", note, map(_example, report.examples))


def _example(one: Answered) -> Html:
    rows = (("wanted", one.wanted), ("before", one.before), ("after", one.after))
    return tag("article", tag("blockquote", one.said, dir="auto"), facts(rows))


def _data(night: Night) -> Html:
    parts = night.split
    rows: list[tuple[str, Content]] = [
        ("new", str(len(night.new))),
        ("trained on", str(len(parts.train))),
        ("best step chosen by", str(len(parts.validation))),
        ("held out tonight", str(len(parts.held_out))),
        ("held out by earlier nights", str(len(parts.earlier))),
        ("prompts of nobody's, replayed", str(night.replayed)),
    ]
    if parts.left_out:
        rows.append(("left out: near to what is held out", str(len(parts.left_out))))
    rows += [(f"left out: {why}", str(count)) for why, count in night.left_out.items()]
    return kit.card("What there was to learn", facts(rows))


def _augmented(report: Report, night: Night) -> Iterator[Html]:
    """What the base made of each fact's questions; they are kept nowhere."""
    if not night.augmented:
        return
    columns = [Column("memory", "long"), Column("made"), Column("trained"), Column("refused", "long")]
    rows = [
        (
            "",
            [
                report.told.get(one.memory, "–"), str(one.made), str(one.kept),
                ", ".join(f"{count} {why}" for why, count in one.refused.items()) or "–",
            ],
        )
        for one in night.augmented
    ]  # fmt: skip
    yield kit.card("Questions in the base's own words", table(columns, rows))  # type: ignore[arg-type]


def _cost(night: Night) -> Html:
    rows: list[tuple[str, Content]] = []
    if night.training is not None:
        took = night.training
        rows += [
            ("tokens trained", f"{took.tokens:,}"),
            ("training", f"{took.seconds:.0f} s, best after step {took.best_step}"),
            ("memory at most", f"{took.peak_bytes / 1e9:.2f} GB"),
        ]
    rows += [(step, f"{seconds:.1f} s") for step, seconds in night.seconds.items()]
    return kit.card("What it took", facts(rows))


def _all(report: Report) -> Html:
    columns = [Column("night"), *(Column(name, "word") for name in ("began", "outcome"))]
    columns += map(Column, ("trained", "held out", "gain", "lost", "won"))
    columns += [Column(name, "word") for name in ("active after it", "head")]
    columns.append(Column("why it was refused", "long"))
    rows = [
        (
            "strong" if report.night is not None and night.number == report.night.number else "",
            [
                str(night.number), night.began[:10], outcome(night), str(len(night.split.train)),
                str(len(night.split.held_out)), gain_of(night), str(len(night.lost)), str(len(night.won)),
                night.activated or "–", head_outcome(night),
                "; ".join((*night.reasons, *(night.head.reasons if night.head else ()))),
            ],
        )
        for night in reversed(report.nights)
    ]  # fmt: skip
    return kit.card("All nights", table(columns, rows))  # type: ignore[arg-type]
