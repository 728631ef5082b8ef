"""`pt fleet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from device_sim.fleet.config import FleetConfig
from device_sim.simulate.cli import FILE, ONE_REWARD, RUN
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.terminal.options import JUNIT, dataclass_options, take

_DEFAULTS: Final = FleetConfig(Path(), "")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="TEXTS", help="Conversations whose texts the users react to.")
@click.option(
    "--devices", type=click.INT, default=_DEFAULTS.devices, show_default=True,
    help="How many; device i has the seed --seed + i.",
)  # fmt: skip
@click.option(
    "--user", metavar="MIX", default=_DEFAULTS.user, show_default=True,
    help="Kinds of users with weights, as for pt simulate: 0.6*profile+0.4*thumbs:answers=0.3",
)  # fmt: skip
@RUN
@click.option("--workers", type=click.INT, help="Processes. [default: one for each core]")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", default=_DEFAULTS.out, show_default=True,
    help="Work folder: the same command goes on in it. Figures and report are there in the end.",
)  # fmt: skip
@click.option("--html", type=FILE, help="Write the report here, too.")
@click.option("--json", type=FILE, help="Write the figures here, too.")
@JUNIT
@dataclass_options(NightsConfig, defaults=_DEFAULTS.nights)
@dataclass_options(GRPOConfig, skip=ONE_REWARD)
def fleet(bundle: Path, **options: Any) -> None:
    """Live through nights with many phones, to see what a rollout would do to a population."""
    nights, grpo = take(NightsConfig, options), take(GRPOConfig, options)
    config = FleetConfig(bundle, nights=nights, grpo=grpo, **options)

    from device_sim.fleet.figures import FIGURES_FILE, figures, population
    from device_sim.fleet.fleet import simulate_fleet
    from device_sim.fleet.html import REPORT_FILE, report
    from device_sim.fleet.rendering import groups_table, nights_table, notes
    from personality_common.files.atomic import atomic_writer, write_json
    from personality_common.terminal.checks import ChecksTable, publish
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command

    made = this_command()
    result = simulate_fleet(config, ConsoleReporter())
    found = population(result)
    document, page = figures(result, found), report(result, found, made).encode()
    figures_to = [config.out / FIGURES_FILE, *([config.json] if config.json else [])]
    report_to = [config.out / REPORT_FILE, *([config.html] if config.html else [])]
    for path in figures_to:
        write_json(path, document)
    for path in report_to:
        with atomic_writer(path) as file:
            file.write(page)
    publish("fleet", result.checks, made, config.junit)
    output.print(groups_table(found))
    output.print()
    output.print(nights_table(found))
    output.print()
    output.print(ChecksTable(result.checks))
    output.print()
    for note in notes(result, found):
        output.print(note, soft_wrap=True, markup=False)
    for name, path in (("report", report_to[-1]), ("figures", figures_to[-1])):
        output.print(f"{name:8}{path}", soft_wrap=True, markup=False)
