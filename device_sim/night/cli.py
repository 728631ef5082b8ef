"""`pt night`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from device_sim.night.config import NightConfig
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FILE, GIVEN, PRINT_JSON, dataclass_options, take


@click.group()
def night() -> None:
    """What was said by day is learned, judged, and taken up or refused."""


@night.command()
@click.argument("store", type=GIVEN)
@dataclass_options(
    NightConfig,
    skip=("store",),
    metavars={
        "bundle": "BUNDLE",
        "model": "smollm2|GGUF|FOLDER",
        "suite": "default|short|FILE",
        "on_failure": "COMMAND",
    },
)
def run(store: Path, **options: Any) -> None:
    """Learn from what was said in STORE since the last night.

    Exit code 0: accepted or refused, or nothing to learn; a refusal is no failure.
    """
    config: NightConfig = take(NightConfig, options, store=store)

    from device_sim.night.machine import failure_command, tell
    from personality_common.terminal.console import ConsoleReporter

    words = failure_command(config.on_failure) if config.on_failure is not None else None
    reporter = ConsoleReporter()
    try:
        _run(config, reporter)
    except Exception as error:
        if words is not None:
            tell(words, f"pt night: {error or type(error).__name__}", reporter)
        raise


def _run(config: NightConfig, reporter: Any) -> None:
    from device_sim.companion.models.opening import gguf_file
    from device_sim.night.listening import open_listener
    from device_sim.night.models import ModelEngine
    from device_sim.night.rendering import night_blocks, outlook_lines
    from personality_common.terminal.console import output

    engine = ModelEngine(
        gguf_file(config.model), threads=config.threads, backend=config.backend, reporter=reporter
    )
    if config.dry_run:
        from device_sim.night.planning import outlook

        listener = open_listener(config.bundle)
        found = outlook(config.store, config.user, config.seed, engine.embed, listener, config.augment)
        for line in outlook_lines(found, config.verbose):
            output.print(line, soft_wrap=True)
        return
    from device_sim.night.cycle import run_night
    from device_sim.night.state import read_nights

    done = run_night(config, engine, reporter)
    if done is None:
        lived = bool(read_nights(config.store))
        output.print(
            "nothing new to learn since the last night, and nothing to unlearn"
            if lived
            else "nothing to learn yet: no answer was edited or praised, and no fact was told",
        )
        return
    output.print(*night_blocks(done), sep="\n")


@night.command()
@click.argument("store", type=GIVEN)
@click.option(
    "--night", "number", type=click.IntRange(min=1), help="The one to show as a whole; the last one."
)
@click.option("--html", type=FILE, help="Write a page with what you said, for you alone.")
@PRINT_JSON
def report(store: Path, number: int | None, html: Path | None, as_json: JsonPlace | None) -> None:
    """What was learned in STORE, what was refused, what was forgotten, night by night."""
    from device_sim.night.html import page
    from device_sim.night.rendering import night_blocks, nights_table, tasks_lines
    from device_sim.night.report import document, read_report
    from personality_common.files.atomic import atomic_writer
    from personality_common.terminal.console import output
    from personality_common.terminal.provenance import this_command

    found = read_report(store, number)
    if html is not None:
        with atomic_writer(html, private=True) as file:
            file.write(page(found, this_command()).encode())
    if emitted(as_json, document(found), private=True):
        return
    if found.night is None:
        output.print("no night yet; pt night run lives the first", soft_wrap=True)
        return
    output.print(nights_table(found.nights), "", *night_blocks(found.night), *tasks_lines(found), sep="\n")
    if html is not None:
        output.print(f"page    {html}", soft_wrap=True)
