"""A simulation as one page: nothing outside of it is loaded, everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from device_sim.simulate.drift import Example, TokenShift
from device_sim.simulate.simulation import Simulation
from device_sim.simulate.verdict import Line
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.style import CSS

TOKENS_SHOWN: Final = 12
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_MARKS: Final = {"passed": ("✓", "ok"), "failed": ("✗", "bad"), "not judged": ("–", "mute")}


def report(simulation: Simulation) -> str:
    """The page, as HTML."""
    title = f"{len(simulation.nights)} nights on a device"
    word = "passed" if simulation.passed else "failed"
    kind = "texts" if simulation.nights[0].lived is None else "held-out texts"
    sections = [
        f'<header><h1>{escape(title)}</h1><p class="sub">{_subtitle(simulation)}</p></header>',
        card(
            f'Verdict: <span class="{"ok" if simulation.passed else "bad"}">{word}</span>',
            _verdict(simulation.verdict),
        ),
        card(
            "Night by night",
            f'<div class="charts">{"".join(_charts(simulation))}</div>',
            _reasons(simulation),
        ),
        card(
            "Tokens in the top 8",
            f'<p class="note">Share of {simulation.measured} {kind}, before and after.</p><div class="pair">',
            *(_tokens(title, simulation.shifts) for title in ("Gained", "Lost")),
            "</div>",
        ),
    ]
    if simulation.examples:
        sections.append(
            f'<section class="card"><h2>Before and after</h2>{_examples(simulation.examples)}</section>'
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}: {word}</title><style>{CSS}</style></head><body><main>"
        f"{''.join(sections)}{_footer(simulation)}</main></body></html>\n"
    )


def card(heading: str, *content: str) -> str:
    """A section of the page; heading and content are HTML."""
    return f'<section class="card"><h2>{heading}</h2>{"".join(content)}</section>'


def _subtitle(simulation: Simulation) -> str:
    config = simulation.config
    who = (
        f"user {config.user}" if config.user else f"feedback from {config.feedback and config.feedback.name}"
    )
    how = config.grpo.loss if config.objective == "grpo" else "one-hot targets under MSE"
    routes = "all three routes" if config.route == "all" else f"route {config.route}"
    return escape(
        f"{who}, {config.nights.interactions} interactions a night, {routes},"
        f" seed {config.nights.seed}, {config.grpo.policy} and {how}"
    )


def _verdict(lines: Sequence[Line]) -> str:
    rows = "".join(
        f'<tr><td class="mark {_MARKS[line.status][1]}" title="{line.status}">{_MARKS[line.status][0]}</td>'
        f'<td>{escape(line.claim)}</td><td class="detail">{escape(line.detail)}</td></tr>'
        for line in lines
    )
    return f'<table class="verdict">{rows}</table>'


def _charts(simulation: Simulation) -> list[str]:
    nights, grpo = simulation.nights, simulation.config.grpo
    charts = []
    lived = [night.lived for night in nights if night.lived is not None]
    if lived:
        band = ([0.0, *(n.low for n in lived)], [0.0, *(n.high for n in lived)])
        series = [
            Series("held-out texts (95%)", [0.0, *(n.rise for n in lived)], band=band),
            Series("the night's own texts", [n.training_rise or 0.0 for n in nights], first=1),
        ]
        charts.append(line_chart("Reward of the top 8, over the shipped head's", series))
    else:
        heard = [n.update.night.reward_mean for n in nights]
        if all(value is not None for value in heard):
            series = [Series("candidates heard", [v for v in heard if v is not None], first=1)]
            charts.append(line_chart("Reward in the feedback", series))
    kl_limit = [] if grpo.kl_budget is None else [Limit("budget", grpo.kl_budget)]
    kept = [] if grpo.overlap_budget is None else [Limit("budget", grpo.overlap_budget)]
    charts.append(
        line_chart(
            "KL, nats per decision",
            [
                Series("to the shipped head", [0.0, *(n.drift.kl for n in nights)]),
                Series("to the head before the night", [n.update.night.kl_old for n in nights], first=1),
            ],
            kl_limit,
        )
    )
    overlaps = [
        Series("held-out texts" if lived else "all texts", [1.0, *(n.drift.overlap for n in nights)]),
        Series("the night's own texts", [n.update.night.overlap_shipped for n in nights], first=1),
    ]
    charts.append(line_chart("Top 8 in common with the shipped head", overlaps, kept))
    spread = Series("entropy, nats", [n.update.night.entropy for n in nights], first=1)
    charts.append(line_chart("Entropy of the policy", [spread]))
    return charts


def _reasons(simulation: Simulation) -> str:
    items = "".join(
        f"<li>night {number}: {escape(reason)}</li>"
        for number, night in enumerate(simulation.nights, start=1)
        for reason in night.update.reasons
    )
    return (
        f"<details><summary>Updates that were cut short</summary><ul>{items}</ul></details>" if items else ""
    )


def _tokens(title: str, shifts: Sequence[TokenShift]) -> str:
    sign = 1 if title == "Gained" else -1
    found = sorted(
        (s for s in shifts if (s.after - s.before) * sign > 0), key=lambda s: sign * (s.before - s.after)
    )
    shown = found[:TOKENS_SHOWN]
    widest = max([max(s.before, s.after) for s in shifts], default=1.0)
    rows = "".join(
        f'<tr><td class="name">{escape(s.token)}</td><td class="bars">'
        f'<div class="bar was" style="width:{100 * s.before / widest:.1f}%"></div>'
        f'<div class="bar now" style="width:{100 * s.after / widest:.1f}%"></div></td>'
        f'<td class="num">{s.before:.0%} → {s.after:.0%}</td></tr>'
        for s in shown
    )
    more = f'<p class="more">and {len(found) - len(shown)} more</p>' if len(found) > len(shown) else ""
    heading = f'<h3>{title} <span class="count">{len(found)}</span></h3>'
    return f'<div>{heading}<table class="tokens">{rows}</table>{more}</div>'


def _examples(examples: Sequence[Example]) -> str:
    blocks = []
    for example in examples:
        lost, won = set(example.before) - set(example.after), set(example.after) - set(example.before)
        before = "".join(_chip(token, "lost" if token in lost else "") for token in example.before)
        after = "".join(_chip(token, "won" if token in won else "") for token in example.after)
        blocks.append(
            f"<article><blockquote>{escape(example.text)}</blockquote>"
            f'<div class="chips"><b>before</b>{before}</div>'
            f'<div class="chips"><b>after</b>{after}</div></article>'
        )
    return "".join(blocks)


def _chip(token: str, kind: str) -> str:
    mark = {"lost": "− ", "won": "+ "}.get(kind, "")
    return f'<span class="chip {kind}">{mark}{escape(token)}</span>'


def _footer(simulation: Simulation) -> str:
    bundle = simulation.bundle
    return (
        f"<footer>run {bundle.run_fingerprint[:12]}, vocabulary {bundle.vocabulary.fingerprint[:12]}, encoder"
        f" {escape(bundle.encoder.name)} {bundle.encoder.fingerprint[:12]}. This page loads nothing"
        " and quotes texts of the data it was made from.</footer>"
    )
