"""A fleet as one page: nothing outside of it is loaded, everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final, TypeAlias

from device_sim.fleet.figures import QUANTILES, Group, Population
from device_sim.fleet.fleet import Fleet
from device_sim.fleet.lives import Lived, measured_nights
from device_sim.fleet.proof import simulate_command
from device_sim.simulate.html import POLICY, card
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.style import CSS

REPORT_FILE: Final = "report.html"
WIDTH: Final = 520
HEIGHT: Final = 150
_LEFT: Final = 12
_FLOOR: Final = HEIGHT - 28
_MORE_CSS: Final = """
.scroll{overflow-x:auto}
.wide th{font-size:12px;font-weight:600;color:var(--mute);text-align:right;vertical-align:bottom;
padding:0 10px 6px 0}
.wide th:first-child,.wide td:first-child{text-align:left;white-space:nowrap}
.wide td{padding:6px 10px 6px 0;border-top:1px solid var(--rule);text-align:right;
font-variant-numeric:tabular-nums;font-size:14px;white-space:nowrap}
.wide tr.all td{font-weight:600}
rect{fill:var(--s0);opacity:.8}
rect.under{fill:var(--s1)}
.zero{stroke:var(--mute);stroke-dasharray:2 4}
code{font-size:12px;overflow-wrap:anywhere}
.wide td.command{white-space:normal;text-align:left;min-width:320px}
.said li{margin:2px 0}
.said{margin:0;padding-left:20px}
"""


def report(fleet: Fleet, found: Population) -> str:
    """The page, as HTML."""
    plan = fleet.plan
    title = f"{plan.devices:,} devices, {plan.nights.nights} nights"
    sections = [
        f'<header><h1>{title}</h1><p class="sub">{_subtitle(fleet)}</p></header>',
        card("Who gained", _gains_note(), _table(_GAINS, found.groups)),
        card(
            "Gain of each device",
            '<p class="note">Mean over the device\'s held-out texts of the reward of its top 8, over that of'
            " the head that shipped. Below zero in the other colour.</p>",
            f'<div class="charts">{"".join(_histogram(group, found.edges) for group in found.groups)}</div>',
        ),
        card("Week by week", _weeks(found.groups, plan.nights.nights)),
        card("What stopped updates", _stops_note(), _table(_STOPS, found.groups)),
        card("Night by night", f'<div class="charts">{"".join(_charts(fleet, found.groups[0]))}</div>'),
        card(
            f"The worst 1%: {len(found.worst)} shown",
            '<p class="note">Each command lives that device\'s life on the package itself, to the same head.'
            "</p>",
            _worst(fleet, found.worst),
        ),
        card("What this is", _said(fleet)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}</title><style>{CSS}{_MORE_CSS}</style></head><body><main>"
        f"{''.join(sections)}{_footer(fleet)}</main></body></html>\n"
    )


def _subtitle(fleet: Fleet) -> str:
    plan = fleet.plan
    mix = ", ".join(f"{kind.share:.0%} {kind.user}" for kind in plan.kinds)
    return escape(
        f"users: {mix}; {plan.nights.interactions} interactions a night, {plan.nights.group} candidates each,"
        f" seeds from {plan.nights.seed}, {plan.grpo.policy} and {plan.grpo.loss}"
    )


def _gains_note() -> str:
    return (
        '<p class="note">Held-out reward over the shipped head: the mean, and what 1%, 5%, half and 95% of'
        " the devices are below. Drift on held-out texts: the mean, and what 1% of the devices are beyond."
        "</p>"
    )


def _stops_note() -> str:
    return (
        '<p class="note">Devices with a night whose update kl_stop cut short, or a budget scaled back or'
        " dropped; then each as a share of all nights.</p>"
    )


def _quantile(group: Group, q: float) -> str:
    return f"{group.gain_quantiles[QUANTILES.index(q)]:+.3f}"


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
    "worst 1%": lambda g: f"{g.overlap_worst:.3f}",
    "KL": lambda g: f"{g.kl:.3f}",
    "worst 1% ": lambda g: f"{g.kl_worst:.3f}",
}
_STOPS: Final[_Columns] = {
    "devices held back": lambda g: f"{g.held_back:.1%}",
    "nights cut short": lambda g: f"{g.stopped:.1%}",
    "scaled back": lambda g: f"{g.scaled:.1%}",
    "dropped": lambda g: f"{g.dropped:.1%}",
    "nothing to learn": lambda g: f"{g.silent:.1%}",
}


def _rows(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A wide table; the class of a row, and its cells, which are HTML."""
    body = "".join(
        f'<tr class="{kind}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for kind, cells in rows
    )
    heading = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="scroll"><table class="wide"><tr>{heading}</tr>{body}</table></div>'


def _table(columns: _Columns, groups: Sequence[Group]) -> str:
    return _rows(
        ["user", *columns],
        [
            ("" if i else "all", [escape(group.name), *(cell(group) for cell in columns.values())])
            for i, group in enumerate(groups)
        ],
    )


def _weeks(groups: Sequence[Group], nights: int) -> str:
    head = ["gain after night", *(str(night + 1) for night in measured_nights(nights))]
    return _rows(
        head,
        [
            ("" if i else "all", [escape(group.name), *(f"{gain:+.3f}" for gain in group.gains)])
            for i, group in enumerate(groups)
        ],
    )


def _histogram(group: Group, edges: Sequence[float]) -> str:
    low, high, most = edges[0], edges[-1], max(group.histogram) or 1

    def x(gain: float) -> float:
        return _LEFT + (gain - low) / (high - low) * (WIDTH - 2 * _LEFT)

    bars = "".join(
        f'<rect class="{"under" if right <= 0 else ""}" x="{x(left):.1f}"'
        f' width="{x(right) - x(left) - 1:.1f}"'
        f' y="{_FLOOR - count / most * (_FLOOR - 8):.1f}" height="{count / most * (_FLOOR - 8):.1f}">'
        f"<title>{left:+.3f} to {right:+.3f}: {count:,} devices</title></rect>"
        for left, right, count in zip(edges[:-1], edges[1:], group.histogram, strict=True)
        if count
    )
    zero = (
        f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{_FLOOR}"/>' if low < 0 < high else ""
    )
    ticks = "".join(
        f'<text class="tick" x="{x(at):.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{at:+.2f}</text>'
        for at, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end"))
    )
    name = escape(group.name, quote=True)
    return (
        f'<figure><figcaption>{name} <span class="count">{group.devices:,} devices</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Gain of each device: {name}">'
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _LEFT}" y1="{_FLOOR}" y2="{_FLOOR}"/>'
        f"{bars}{zero}{ticks}</svg></figure>"
    )


def _charts(fleet: Fleet, everyone: Group) -> list[str]:
    nights, grpo = everyone.nights, fleet.plan.grpo
    kept = [] if grpo.overlap_budget is None else [Limit("budget", grpo.overlap_budget)]
    limit = [] if grpo.kl_budget is None else [Limit("budget", grpo.kl_budget)]
    own = "the night's own texts, mean over devices"
    charts = [
        line_chart("Top 8 in common with the shipped head", [Series(own, nights["overlap"], first=1)], kept),
        line_chart("KL to the shipped head, nats per decision", [Series(own, nights["kl"], first=1)], limit),
        line_chart(
            "Share of devices whose update a budget held",
            [
                Series("scaled back", nights["scaled"], first=1),
                Series("dropped", nights["dropped"], first=1),
            ],
        ),
    ]
    early = [
        Series("cut short by kl_stop", nights["stopped"], first=1),
        Series("nothing to learn", nights["silent"], first=1),
    ]
    if any(value for series in early for value in series.values):
        charts.append(line_chart("Share of devices whose night ended early", early))
    return charts


def _worst(fleet: Fleet, worst: Sequence[Lived]) -> str:
    head = ["device", "user", "gain", "top 8 kept", "KL", "nights held back", "command"]
    rows = []
    for one in worst:
        command = escape(simulate_command(fleet.plan, one.device))
        cells = [
            str(one.device), escape(fleet.plan.kinds[one.kind].user), f"{one.gain:+.3f}",
            f"{one.overlap:.3f}", f"{one.kl:.3f}", str(one.stopped + one.scaled + one.dropped),
            f"<code>{command}</code>",
        ]  # fmt: skip
        rows.append(("", cells))
    return _rows(head, rows).replace("<td><code>", '<td class="command"><code>')


def _said(fleet: Fleet) -> str:
    devices = ", ".join(map(str, fleet.proof.devices))
    held_out = "texts that no device ever trains on"
    items = [
        "Simulated, for every device: its user, its draws, its feedback, the update of its head, the budgets,"
        f" and the measurement on {held_out}. The users are formulas, not people.",
        "Not simulated: packages, routes into them, Core ML, and an app's own gates. pt simulate does these"
        " for one device at a time.",
        f"Devices {devices} were lived again alone, by the code of pt simulate: their heads were the same,"
        " bit for bit. Texts of device 0 were embedded again for it.",
        "Heads are not kept: a device is a function of its seed, and its command makes its head again.",
    ]
    return f'<ul class="said">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>'


def _footer(fleet: Fleet) -> str:
    bundle = fleet.bundle
    return (
        f"<footer>run {bundle.run_fingerprint[:12]}, vocabulary {bundle.vocabulary.fingerprint[:12]}, encoder"
        f" {escape(bundle.encoder.name)} {bundle.encoder.fingerprint[:12]}. This page loads nothing and"
        " quotes no text.</footer>"
    )
