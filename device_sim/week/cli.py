"""`pt simulate --companion`."""

from __future__ import annotations

from typing import Any

import click

from device_sim.week.config import WeekConfig
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FOLDER, PRINT_JSON, dataclass_options, take


@click.command(name="simulate")
@dataclass_options(
    WeekConfig,
    types={"out": FOLDER},
    metavars={"out": "DIR", "model": "smollm2|GGUF|FOLDER", "suite": "default|short|FILE"},
)
@PRINT_JSON
def week(as_json: JsonPlace | None, **options: Any) -> None:
    """Live a phone's week with a simulated user who chats, and tell what each part was good for.

    Facts are told on day 1, and asked on days 2 and 5; what is liked changes half way. Exit code 0: the week
    was lived, whatever its nights came to. The same command goes on with a week that was stopped.
    """
    config: WeekConfig = take(WeekConfig, options)

    from device_sim.companion.models.opening import gguf_file
    from device_sim.night.models import ModelEngine
    from device_sim.week.figures import day_figures, document
    from device_sim.week.html import page
    from device_sim.week.living import live_week
    from device_sim.week.rendering import nights_table, parts_table, week_lines
    from device_sim.week.state import PAGE_FILE
    from personality_common.files.atomic import atomic_writer
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command

    reporter, made = ConsoleReporter(), this_command()
    engine = ModelEngine(gguf_file(config.model), threads=config.threads, reporter=reporter)
    lived = live_week(config, engine, reporter)
    with atomic_writer(config.out / PAGE_FILE, private=True) as file:
        file.write(page(lived, made).encode())
    if emitted(as_json, made.on(document(lived)), private=True):
        return
    output.print(nights_table(lived))
    output.print()
    output.print(parts_table(day_figures(lived)))
    output.print()
    for line in week_lines(lived):
        output.print(line, soft_wrap=True)
    output.print(f"page    {config.out / PAGE_FILE}", soft_wrap=True)
