"""`pt fleet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from device_sim.fleet.config import FleetConfig
from device_sim.simulate.cli import ONE_REWARD
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.terminal.options import FOLDER, GIVEN, dataclass_options, take
from personality_common.terminal.report_files import ReportFiles, report_options

_DEFAULTS: Final = FleetConfig(Path(), "")


@click.command()
@click.argument("bundle", type=GIVEN)
@dataclass_options(
    FleetConfig,
    skip=("bundle", "nights", "grpo"),
    types={"out": FOLDER},
    metavars={"data": "TEXTS", "user": "MIX", "out": "DIR"},
)
@report_options
@dataclass_options(NightsConfig, defaults=_DEFAULTS.nights, heading="Nights")
@dataclass_options(GRPOConfig, skip=ONE_REWARD, heading="Update of the head")
def fleet(bundle: Path, **options: Any) -> None:
    """Live through nights with many phones, to see what a rollout would do to a population."""
    nights, grpo, files = (take(kind, options) for kind in (NightsConfig, GRPOConfig, ReportFiles))
    config = FleetConfig(bundle, nights=nights, grpo=grpo, **options)

    from device_sim.fleet.figures import FIGURES_FILE, figures, population
    from device_sim.fleet.fleet import simulate_fleet
    from device_sim.fleet.html import REPORT_FILE, report
    from device_sim.fleet.rendering import groups_table, nights_table, notes
    from personality_common.evidence.claims import passed
    from personality_common.files.atomic import atomic_writer, write_json
    from personality_common.terminal.checks import ChecksTable
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command

    made = this_command()
    result = simulate_fleet(config, ConsoleReporter())
    found = population(result)
    document, page = made.on(figures(result, found)), report(result, found, made).encode()
    write_json(config.out / FIGURES_FILE, document)
    with atomic_writer(config.out / REPORT_FILE) as file:
        file.write(page)
    if not files.write("fleet", result.checks, made, document, page):
        told = dict(files.told())
        output.print(groups_table(found))
        output.print()
        output.print(nights_table(found))
        output.print()
        output.print(ChecksTable(result.checks))
        output.print()
        for note in notes(result, found):
            output.print(note, soft_wrap=True)
        for name, path in (
            ("report", told.get("report", config.out / REPORT_FILE)),
            ("figures", told.get("figures", config.out / FIGURES_FILE)),
        ):
            output.print(f"{name:8}{path}", soft_wrap=True)
    if not passed(result.checks):
        raise click.exceptions.Exit(1)
