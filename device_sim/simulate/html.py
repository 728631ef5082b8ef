"""A simulation as one page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from device_sim.simulate.drift import Example, TokenShift
from device_sim.simulate.phone_cost import dearest, night_costs, told
from device_sim.simulate.rendering import gate_line
from device_sim.simulate.simulation import Simulation
from device_sim.users.users import NO_SIGNAL
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.html import Html, tag
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.tables import bar, verdict

TOKENS_SHOWN: Final = 12


def report(simulation: Simulation, made: Provenance) -> str:
    """The page, as HTML."""
    title = f"{len(simulation.nights)} nights on a device"
    word = "passed" if simulation.passed else "failed"
    kind = "texts" if simulation.nights[0].lived is None else "held-out texts"
    sections = [
        kit.heading(headline(simulation), f"{title}; {_subtitle(simulation)}", passed=simulation.passed),
        kit.card(f"Verdict: {word}", verdict(simulation.checks)),
        kit.card(
            "Night by night",
            kit.columns(_charts(simulation)),
            kit.note(f"The dearest night costs a phone {told(dearest(night_costs(simulation)))}."),
            _reasons(simulation),
        ),
        kit.card(
            "Tokens in the top 8",
            kit.note(f"Share of {simulation.measured} {kind}, before and after."),
            kit.columns(_tokens("Gained", simulation.shifts, 1), _tokens("Lost", simulation.shifts, -1)),
        ),
    ]
    if simulation.examples:
        sections.append(kit.card("Before and after", map(_example, simulation.examples)))
    notes = (of_bundle(simulation.bundle), tag("p", "This page quotes texts of the data it was made from."))
    return kit.page(f"{title}: {headline(simulation)}", *sections, made=made, notes=notes)


def headline(simulation: Simulation) -> str:
    """The most important thing: what failed; else whether the head moved, and what that gave."""
    if failed := [check.name for check in simulation.checks if check.failed]:
        return f"Failed: {'; '.join(failed)}"
    last = simulation.nights[-1]
    if all(night.delivery.version is None for night in simulation.nights):
        return f"Nothing moved: {gate_line(last.update) or 'no update changed the head'}"
    if last.lived is None:
        return f"The head moved and keeps {last.drift.overlap:.0%} of the shipped head's top 8"
    gained = f"Reward {last.lived.rise:+.3f} on held-out texts (95%: {last.lived.low:+.3f} to "
    return f"{gained}{last.lived.high:+.3f}), {last.drift.overlap:.0%} of the top 8 kept"


def of_bundle(bundle: VerifiedBundle) -> Html:
    """A note that says which bundle it was."""
    encoder = f"{bundle.encoder.name} {bundle.encoder.fingerprint[:12]}"
    vocabulary = bundle.vocabulary.fingerprint[:12]
    return tag("p", f"Run {bundle.run_fingerprint[:12]}, vocabulary {vocabulary}, encoder {encoder}.")


def _subtitle(simulation: Simulation) -> str:
    config = simulation.config
    kind = (config.user or "").partition(":")[0]
    control = " (control: rewards say nothing)" if kind in NO_SIGNAL else ""
    who = (
        f"user {config.user}{control}"
        if config.user
        else f"feedback from {config.feedback and config.feedback.name}"
    )
    how = f"learner {config.learners[0]}" if config.objective == "learner" else "one-hot targets under MSE"
    gate = gate_line(simulation.nights[-1].update)
    routes = "all three routes" if config.route == "all" else f"route {config.route}"
    return (
        f"{who}, {config.nights.interactions} interactions a night, {routes},"
        f" seed {config.nights.seed}, {config.grpo.policy} and {how}" + (f"; {gate}" if gate else "")
    )


def _charts(simulation: Simulation) -> Iterator[Html]:
    nights, grpo = simulation.nights, simulation.config.grpo
    lived = [night.lived for night in nights if night.lived is not None]
    own = "the night's own texts"
    if lived:
        band = ([0.0, *(n.low for n in lived)], [0.0, *(n.high for n in lived)])
        yield line_chart(
            "Reward of the top 8, over the shipped head's",
            [
                Series("held-out texts (95%)", [0.0, *(n.rise for n in lived)], band=band),
                Series(own, [n.training_rise or 0.0 for n in nights], first=1),
            ],
            x="night", y="reward",
        )  # fmt: skip
    else:
        heard = [math.nan if (r := n.update.night.reward_mean) is None else r for n in nights]
        yield line_chart(
            "Reward in the feedback", [Series("candidates heard", heard, first=1)], x="night", y="reward"
        )
    yield line_chart(
        "KL of the policy",
        [
            Series("to the shipped head", [0.0, *(n.drift.kl for n in nights)]),
            Series("to the head before the night", [n.update.night.kl_old for n in nights], first=1),
        ],
        [] if grpo.kl_budget is None else [Limit("budget", grpo.kl_budget)],
        x="night", y="nats per decision",
    )  # fmt: skip
    yield line_chart(
        "Top 8 in common with the shipped head",
        [
            Series("held-out texts" if lived else "all texts", [1.0, *(n.drift.overlap for n in nights)]),
            Series(own, [n.update.night.overlap_shipped for n in nights], first=1),
        ],
        [] if grpo.overlap_budget is None else [Limit("budget", grpo.overlap_budget)],
        x="night", y="share of 8",
    )  # fmt: skip
    entropy = [n.update.night.entropy for n in nights]
    yield line_chart("Entropy of the policy", [Series(own, entropy, first=1)], x="night", y="nats")


def _reasons(simulation: Simulation) -> Html | None:
    items = [
        tag("li", f"night {number}: {reason}")
        for number, night in enumerate(simulation.nights, start=1)
        for reason in night.update.reasons
    ]
    summary = tag("summary", "Updates that were cut short")
    return tag("details", summary, tag("ul", items)) if items else None


def _tokens(title: str, shifts: Sequence[TokenShift], sign: int) -> Html:
    found = [s for s in shifts if (s.after - s.before) * sign > 0]
    found.sort(key=lambda s: sign * (s.before - s.after))
    widest = max([max(s.before, s.after) for s in shifts], default=1.0)
    rows = (
        tag(
            "tr",
            tag("td", s.token, class_="word"),
            tag("td", bar(s.before / widest, "was"), bar(s.after / widest, "now"), class_="bars"),
            tag("td", f"{s.before:.0%} → {s.after:.0%}", class_="figure"),
        )
        for s in found[:TOKENS_SHOWN]
    )
    more = kit.note(f"and {len(found) - TOKENS_SHOWN} more") if len(found) > TOKENS_SHOWN else None
    heading = tag("h3", title, " ", tag("span", len(found), class_="count"))
    return tag("div", heading, tag("table", tag("tbody", rows), class_="bare"), more)


def _example(example: Example) -> Html:
    lost, won = set(example.before) - set(example.after), set(example.after) - set(example.before)
    before = (kit.chip(f"− {t}", "lost") if t in lost else kit.chip(t) for t in example.before)
    after = (kit.chip(f"+ {t}", "won") if t in won else kit.chip(t) for t in example.after)
    return kit.example(example.text, ("before", before), ("after", after))
