"""`pt eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from device_sim.capability.config import DEFAULT, PROBES, EvalConfig
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import PRINT_JSON, dataclass_options, take


@click.group("eval")
def evaluation() -> None:
    """What a language model can do, measured by its answers."""


@evaluation.command("lm")
@click.argument("model")
@dataclass_options(EvalConfig, skip=("model",), metavars={"suite": f"{DEFAULT}|{PROBES}|FILE"})
@PRINT_JSON
def language_model(model: str, as_json: JsonPlace | None, **options: Any) -> None:
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
    from personality_common.terminal.console import ConsoleReporter, output

    builtin = {DEFAULT: default_suite, PROBES: probes}.get(config.suite)
    suite = builtin() if builtin else read_suite(Path(config.suite))
    opened = open_model(config.model, adapter=config.adapter)
    scored = run_suite(opened, suite, ConsoleReporter())
    found = figures(suite, scored, opened.name, getattr(opened, "fingerprint", None))
    if not emitted(as_json, found, private=True):
        output.print(domain_table(scored))
