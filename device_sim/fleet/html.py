"""A fleet as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from device_sim.fleet.figures import QUANTILES, Group, Population
from device_sim.fleet.fleet import Fleet
from device_sim.fleet.lives import Lived, measured_nights
from device_sim.fleet.proof import simulate_command
from device_sim.fleet.verdict import is_control
from device_sim.simulate.html import of_bundle
from personality_common.evidence.claims import passed
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.histogram import histogram
from personality_common.page.html import Content, Html, tag
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.tables import Column, table, verdict

REPORT_FILE: Final = "report.html"


def report(fleet: Fleet, found: Population, made: Provenance) -> str:
    """The page, as HTML."""
    plan = fleet.plan
    title, everyone = f"{plan.devices:,} devices, {plan.nights.nights} nights", found.groups[0]
    said = f"{everyone.below_zero:.0%} of devices worse off, {everyone.held_back:.0%} held back"
    gains = {f"{night + 1}": i for i, night in enumerate(measured_nights(plan.nights.nights))}
    weeks: _Columns = {night: _gain_after(i) for night, i in gains.items()}
    return kit.page(
        f"{title}: {said}",
        kit.heading(said, f"{title}; {_subtitle(fleet)}", passed=passed(fleet.checks)),
        kit.card(
            "Who gained",
            kit.note(
                "Held-out reward over the shipped head: the mean, and what 1%, 5%, half and 95% of the"
                " devices are below. Drift on held-out texts: the mean, and what 1% of them are beyond."
            ),
            _groups("user", _GAINS, found.groups),
        ),
        kit.card(
            "Gain of each device",
            kit.note(
                "Mean over the device's held-out texts of the reward of its top 8, over that of the head that"
                " shipped. Below zero in the other colour."
            ),
            kit.columns(_histogram(group, found.edges) for group in found.groups),
        ),
        kit.card("Week by week", _groups("gain after night", weeks, found.groups)),
        kit.card(
            "What stopped updates",
            kit.note(
                "Devices with a night whose update kl_stop cut short, or a budget scaled back or dropped;"
                " then each as a share of all nights."
            ),
            _groups("user", _STOPS, found.groups),
        ),
        kit.card("Night by night", kit.columns(_charts(fleet, found.groups[0]))),
        kit.card(
            f"The worst 1%: {len(found.worst)} shown",
            kit.note("Each command lives that device's life on the package itself, to the same head."),
            _worst(fleet, found.worst),
        ),
        kit.card("What this is", verdict(fleet.checks), tag("ul", (tag("li", item) for item in _SAID))),
        made=made,
        notes=(of_bundle(fleet.bundle), tag("p", "This page quotes no text.")),
    )


_SAID: Final = (
    "Simulated, for every device: its user, its draws, its feedback, the update of its head, the budgets, and"
    " the measurement on texts that no device ever trains on. The users are formulas, not people.",
    "Not simulated: packages, routes into them, Core ML, and an app's own gates. pt simulate does these for"
    " one device at a time.",
    "Devices that were lived again alone went through the code of pt simulate; texts of device 0 were"
    " embedded again for it.",
    "Heads are not kept: a device is a function of its seed, and its command makes its head again.",
)


def _subtitle(fleet: Fleet) -> str:
    plan = fleet.plan
    mix = ", ".join(
        f"{kind.share:.0%} {kind.user}" + (" (control: rewards say nothing)" if is_control(kind.user) else "")
        for kind in plan.kinds
    )
    return (
        f"users: {mix}; {plan.nights.interactions} interactions a night, {plan.nights.group} candidates each,"
        f" seeds from {plan.nights.seed}, {plan.grpo.policy} and {plan.grpo.loss}"
    )


def _quantile(group: Group, q: float) -> str:
    return f"{group.gain_quantiles[QUANTILES.index(q)]:+.3f}"


def _gain_after(index: int) -> Callable[[Group], str]:
    return lambda group: f"{group.gains[index]:+.3f}"


_Columns: TypeAlias = dict[str, Callable[[Group], str]]
_GAINS: Final[_Columns] = {
    "devices": lambda g: f"{g.devices:,}",
    "gain": lambda g: f"{g.gain:+.3f}",
    "1%": lambda g: _quantile(g, 0.01),
    "5%": lambda g: _quantile(g, 0.05),
    "median": lambda g: _quantile(g, 0.5),
    "95%": lambda g: _quantile(g, 0.95),
    "below 0": lambda g: f"{g.below_zero:.1%}",
    "of the best head": lambda g: "–" if g.oracle_share is None else f"{g.oracle_share:.0%}",
    "top 8 kept": lambda g: f"{g.overlap:.3f}",
    "top 8 kept, worst 1%": lambda g: f"{g.overlap_worst:.3f}",
    "KL": lambda g: f"{g.kl:.3f}",
    "KL, worst 1%": lambda g: f"{g.kl_worst:.3f}",
}
_STOPS: Final[_Columns] = {
    "devices held back": lambda g: f"{g.held_back:.1%}",
    "nights cut short": lambda g: f"{g.stopped:.1%}",
    "scaled back": lambda g: f"{g.scaled:.1%}",
    "dropped": lambda g: f"{g.dropped:.1%}",
    "nothing to learn": lambda g: f"{g.silent:.1%}",
}


def _groups(first: str, columns: _Columns, groups: Sequence[Group]) -> Html:
    return table(
        [Column(first, "word"), *map(Column, columns)],
        [
            ("" if i else "strong", [group.title, *(cell(group) for cell in columns.values())])
            for i, group in enumerate(groups)
        ],
    )


def _histogram(group: Group, edges: Sequence[float]) -> Html:
    counted = sum(group.histogram)
    unknown = f", {group.devices - counted:,} of them without a gain" if counted < group.devices else ""
    return histogram(
        f"Gain of {group.title}: {group.devices:,} devices{unknown}",
        edges, group.histogram, x="gain in reward", unit="devices",
    )  # fmt: skip


def _charts(fleet: Fleet, everyone: Group) -> Iterator[Html]:
    nights, grpo = everyone.nights, fleet.plan.grpo
    own = "the night's own texts, mean over devices"

    def shares(title: str, **names: str) -> Html:
        series = [Series(name.replace("_", " "), nights[key], first=1) for name, key in names.items()]
        return line_chart(title, series, x="night", y="share of devices")

    yield line_chart(
        "Top 8 in common with the shipped head",
        [Series(own, nights["overlap"], first=1)],
        [] if grpo.overlap_budget is None else [Limit("budget", grpo.overlap_budget)],
        x="night", y="share of 8",
    )  # fmt: skip
    yield line_chart(
        "KL to the shipped head",
        [Series(own, nights["kl"], first=1)],
        [] if grpo.kl_budget is None else [Limit("budget", grpo.kl_budget)],
        x="night", y="nats per decision",
    )  # fmt: skip
    yield shares("Devices whose update a budget held", scaled_back="scaled", dropped="dropped")
    if any(value for name in ("stopped", "silent") for value in nights[name]):
        yield shares(
            "Devices whose night ended early", cut_short_by_kl_stop="stopped", nothing_to_learn="silent"
        )


def _worst(fleet: Fleet, worst: Sequence[Lived]) -> Html:
    columns = [Column("device", "word"), Column("user", "word")]
    columns += map(Column, ("gain", "top 8 kept", "KL", "nights held back"))
    rows: list[Sequence[Content]] = [
        [
            str(one.device), fleet.plan.kinds[one.kind].user, f"{one.gain:+.3f}", f"{one.overlap:.3f}",
            f"{one.kl:.3f}", str(one.stopped + one.scaled + one.dropped),
            tag("code", simulate_command(fleet.plan, one.device)),
        ]
        for one in worst
    ]  # fmt: skip
    return table([*columns, Column("command", "long")], [("", row) for row in rows])
