"""`pt simulate` and `pt grpo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from device_sim.runtimes.config import RUNTIME_CHOICES
from device_sim.simulate.config import OBJECTIVES, ROUTE_CHOICES, SimulateConfig, TuneConfig
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.terminal.options import JUNIT, dataclass_options, take

_DEFAULTS = {name: field.default for name, field in SimulateConfig.__dataclass_fields__.items()}
ONE_REWARD: Final = ("reward_weights", "reward_aggregation")
"""Settings of several reward functions: on the command line there is one."""
FILE = click.Path(path_type=Path, dir_okay=False)
RUN = click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="The bundle's run: embed texts with its encoder, not with the bundle's.",
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--feedback", type=FILE, help="Replay a feedback file, in nights of --interactions each.")
@click.option(
    "--user",
    metavar="SIMULATOR[:k=v,…]",
    help="Simulate a user: profile, thumbs, drifting, contrary, random, or module:function.",
)
@click.option("--data", metavar="TEXTS", help="Conversations whose texts the user reacts to.")
@RUN
@click.option(
    "--route",
    type=click.Choice(ROUTE_CHOICES),
    default=_DEFAULTS["route"],
    show_default=True,
    help="How the update reaches the package.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIME_CHOICES),
    default=_DEFAULTS["runtime"],
    show_default=True,
    help="What computes latents.",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    default=_DEFAULTS["objective"],
    show_default=True,
    help="What moves the head: GRPO, or one-hot targets under MSE, as apps train it today.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep heads, packages, feedback.")
@click.option("--html", type=FILE, help="Write a report.")
@click.option("--json", type=FILE, help="Write the figures.")
@JUNIT
@click.option("--keep-texts", is_flag=True, help="Texts in the feedback log, in place of their SHA-256.")
@dataclass_options(NightsConfig)
@dataclass_options(GRPOConfig, skip=ONE_REWARD)
def simulate(bundle: Path, **options: Any) -> None:
    """Live through nights of feedback with a bundle, as a phone would, and prove what must hold."""
    nights, grpo = take(NightsConfig, options), take(GRPOConfig, options)
    config = SimulateConfig(bundle, nights=nights, grpo=grpo, **options)

    from device_sim.simulate.figures import FEEDBACK_FILE, figures, write_feedback_log
    from device_sim.simulate.html import report
    from device_sim.simulate.rendering import nights_table, reasons, routes_table
    from device_sim.simulate.simulation import FIGURES_FILE
    from device_sim.simulate.simulation import simulate as run_simulation
    from personality_common.files.atomic import atomic_writer, write_json
    from personality_common.terminal.checks import ChecksTable, publish
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command

    made = this_command()
    with run_simulation(config, ConsoleReporter()) as (result, folder):
        document, page = figures(result), report(result, made).encode()
        if config.out is not None:
            write_feedback_log(folder / FEEDBACK_FILE, result)
            (folder / "report.html").write_bytes(page)
            write_json(folder / FIGURES_FILE, document)
    if config.json is not None:
        write_json(config.json, document)
    if config.html is not None:
        with atomic_writer(config.html) as file:
            file.write(page)
    publish("simulate", result.checks, made, config.junit)
    output.print(nights_table(result))
    for reason in reasons(result):
        output.print(reason, style="dim", markup=False)
    if config.route == "all":
        output.print()
        output.print(routes_table(result))
    output.print()
    output.print(ChecksTable(result.checks))
    for name, path in (("report", config.html), ("figures", config.json), ("kept", config.out)):
        if path is not None:
            output.print(f"{name:8}{path}", soft_wrap=True, markup=False)
    if not result.passed:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(path_type=Path))
@click.option("--feedback", required=True, type=FILE, help="A feedback file.")
@click.option("--out", required=True, type=FILE, metavar="HEAD", help="The new head, safetensors.")
@RUN
@dataclass_options(GRPOConfig, skip=ONE_REWARD)
def grpo(model: Path, **options: Any) -> None:
    """One update of the head from a feedback file."""
    settings = take(GRPOConfig, options)
    config = TuneConfig(model, grpo=settings, **options)

    from device_sim.simulate.one_update import tune_from_file
    from device_sim.simulate.rendering import update_table
    from personality_common.terminal.console import ConsoleReporter, output

    result = tune_from_file(config, ConsoleReporter())
    output.print(update_table(result))
    for reason in result.reasons:
        output.print(reason, style="dim", markup=False)
    output.print(f"head  {config.out}", soft_wrap=True, markup=False)
