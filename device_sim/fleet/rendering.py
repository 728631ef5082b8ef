"""A fleet in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from device_sim.fleet.figures import QUANTILES, Population
from device_sim.fleet.fleet import Fleet
from device_sim.fleet.proof import simulate_command
from personality_common.terminal.tables import Column, Grid, figures

COMMANDS_SHOWN = 3


def groups_table(found: Population) -> Grid:
    """A row per kind of user: mean gain, what 1% and half of the devices are below; drift; devices held."""
    columns = [
        Column("user", "text"), *figures("devices", "gain"), Column("1%", "figure", drop=3),
        Column("median", "figure", drop=1), *figures("below 0", "top 8"), Column("KL", "figure", drop=2),
        *figures("held"),
    ]  # fmt: skip
    rows = []
    for group in found.groups:
        quantile = dict(zip(QUANTILES, group.gain_quantiles, strict=True))
        rows.append(
            (
                group.title, f"{group.devices:,}", f"{group.gain:+.3f}",
                *(f"{quantile[q]:+.3f}" for q in (0.01, 0.5)), f"{group.below_zero:.1%}",
                f"{group.overlap:.3f}", f"{group.kl:.3f}", f"{group.held_back:.0%}",
            )
        )  # fmt: skip
    return Grid(columns, rows)


def nights_table(found: Population) -> Grid:
    """What became of the updates, as shares of all nights."""
    columns = (Column("user", "text"), *figures("cut short", "scaled back", "dropped", "nothing to learn"))
    rows = [
        (
            group.title,
            *(f"{share:.1%}" for share in (group.stopped, group.scaled, group.dropped, group.silent)),
        )
        for group in found.groups
    ]
    return Grid(columns, rows)


def notes(fleet: Fleet, found: Population) -> Iterator[str]:
    """What the columns are, what was not simulated, and how to look at the worst."""
    yield (
        "gain: reward of the top 8 on held-out texts, over the shipped head's; top 8: share still shown;"
        " held: devices with an update that kl_stop or a budget cut short, scaled back or dropped"
    )
    yield (
        "simulated: users, draws, feedback, updates, budgets. Not: packages, routes, Core ML;"
        " pt simulate does these for one device:"
    )
    for one in found.worst[:COMMANDS_SHOWN]:
        yield f"device {one.device}, gain {one.gain:+.3f}: {simulate_command(fleet.plan, one.device)}"
    if fleet.seconds:
        rate = fleet.device_nights / fleet.seconds
        yield f"{fleet.device_nights:,} device-nights in {fleet.seconds:,.0f} s, {rate:,.0f} a second"
    else:
        yield "every device had lived before; nothing was left to do"
