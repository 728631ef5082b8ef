"""`pt eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from device_sim.capability.config import DEFAULT, PROBES, EvalConfig
from personality_common.terminal.options import dataclass_options, take


@click.group("eval")
def evaluation() -> None:
    """What a language model can do, measured by its answers."""


@evaluation.command("lm")
@click.argument("model")
@dataclass_options(EvalConfig, skip=("model",), metavars={"suite": f"{DEFAULT}|{PROBES}|FILE"})
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE|-",
    help="Write the figures and every answer; - prints them, and no table.",
)  # fmt: skip
def language_model(model: str, json_file: Path | None, **options: Any) -> None:
    """Give MODEL small tasks, and score its answers.

    MODEL: smollm2, a GGUF file, a folder of pt lm export, or a URL.

    It answers as it serves, taking the likeliest token each time. Answers are scored by rules, not by another
    model.
    """
    config = take(EvalConfig, options, model=model)

    from device_sim.capability.report import domain_table, figures
    from device_sim.capability.running import run_suite
    from device_sim.capability.suite import default_suite, probes, read_suite
    from device_sim.companion.models.opening import open_model
    from personality_common.files.atomic import write_json
    from personality_common.terminal.console import ConsoleReporter, output

    builtin = {DEFAULT: default_suite, PROBES: probes}.get(config.suite)
    suite = builtin() if builtin else read_suite(Path(config.suite))
    opened = open_model(config.model, adapter=config.adapter)
    scored = run_suite(opened, suite, ConsoleReporter())
    found = figures(suite, scored, opened.name, getattr(opened, "fingerprint", None))
    if json_file is not None and str(json_file) == "-":
        click.echo(json.dumps(found, indent=2))
        return
    if json_file is not None:
        write_json(json_file, found)
    output.print(domain_table(scored))
