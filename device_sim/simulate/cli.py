"""`pt simulate` and `pt grpo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from device_sim.simulate.config import SimulateConfig, TuneConfig
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.terminal.command import SplitCommand
from personality_common.terminal.options import FILE, FOLDER, GIVEN, dataclass_options, take
from personality_common.terminal.report_files import ReportFiles, report_options

if TYPE_CHECKING:
    from device_sim.simulate.simulation import Simulation

COMPANION: Final = "--companion"
ONE_REWARD: Final = ("reward_weights", "reward_aggregation")
"""Settings of several reward functions: on the command line there is one."""


def _week() -> click.Command:
    from device_sim.week.cli import week

    return week


@click.command(cls=SplitCommand, flag=COMPANION, other=_week)
@click.argument("bundle", type=GIVEN)
@click.option(
    COMPANION,
    is_flag=True,
    expose_value=False,
    help="A week with a user who chats, without BUNDLE: see pt simulate --companion --help.",
)
@dataclass_options(
    SimulateConfig,
    skip=("bundle", "nights", "grpo"),
    types={"out": FOLDER},
    metavars={"user": "SIMULATOR[:k=v,…]", "data": "TEXTS", "out": "DIR", "rewards": "SPEC"},
)
@report_options
@dataclass_options(NightsConfig, heading="Nights")
@dataclass_options(GRPOConfig, skip=ONE_REWARD, heading="Update of the head")
def simulate(bundle: Path, **options: Any) -> None:
    """Live through nights of feedback with a bundle, as a phone would, and prove what must hold."""
    nights, grpo, files = (take(kind, options) for kind in (NightsConfig, GRPOConfig, ReportFiles))
    config = SimulateConfig(bundle, nights=nights, grpo=grpo, **options)

    from device_sim.simulate.figures import FEEDBACK_FILE, figures, write_feedback_log
    from device_sim.simulate.html import report
    from device_sim.simulate.simulation import FIGURES_FILE, simulate_phone
    from personality_common.files.atomic import atomic_writer, write_json
    from personality_common.terminal.console import ConsoleReporter
    from personality_common.terminal.provenance import this_command

    made = this_command()
    with simulate_phone(config, ConsoleReporter()) as (result, folder):
        document, page = made.on(figures(result)), report(result, made).encode()
        if config.out is not None:
            write_feedback_log(folder / FEEDBACK_FILE, result)
            with atomic_writer(folder / "report.html", private=True) as file:
                file.write(page)
            write_json(folder / FIGURES_FILE, document)
    if not files.write("simulate", result.checks, made, document, page):
        _print(result, files)
    if not result.passed:
        raise click.exceptions.Exit(1)


def _print(result: Simulation, files: ReportFiles) -> None:
    from device_sim.simulate.phone_cost import dearest, night_costs, told
    from device_sim.simulate.rendering import gate_line, learners_table, nights_table, reasons, routes_table
    from personality_common.terminal.checks import ChecksTable
    from personality_common.terminal.console import output

    output.print(nights_table(result))
    for reason in reasons(result):
        output.print(reason, style="dim")
    if (line := gate_line(result.nights[-1].update)) is not None:
        output.print(line)
    output.print(f"the dearest night costs a phone {told(dearest(night_costs(result)))}")
    if result.others:
        output.print()
        output.print(learners_table(result))
    if result.config.route == "all":
        output.print()
        output.print(routes_table(result))
    output.print()
    output.print(ChecksTable(result.checks))
    kept = [] if result.config.out is None else [("kept", result.config.out)]
    for name, path in (*files.told(), *kept):
        output.print(f"{name:8}{path}", soft_wrap=True)


@click.command()
@click.argument("model", metavar="RUN|BUNDLE", type=GIVEN)
@dataclass_options(
    TuneConfig,
    skip=("model", "grpo"),
    types={"out": FILE},
    metavars={"out": "HEAD", "rewards": "SPEC"},
)
@dataclass_options(GRPOConfig, skip=ONE_REWARD, heading="Update of the head")
def grpo(model: Path, **options: Any) -> None:
    """One update of the head from a feedback file."""
    settings = take(GRPOConfig, options)
    config = TuneConfig(model, grpo=settings, **options)

    from device_sim.simulate.one_update import tune_from_file
    from device_sim.simulate.rendering import gate_line, update_table
    from personality_common.terminal.console import ConsoleReporter, output

    result = tune_from_file(config, ConsoleReporter())
    output.print(update_table(result))
    for reason in result.reasons:
        output.print(reason, style="dim")
    if (line := gate_line(result)) is not None:
        output.print(line)
    if not result.night.changed_weights:
        output.print("the update moved no number of the head: what is written is the head as it was")
    output.print(f"head  {config.out}", soft_wrap=True)
