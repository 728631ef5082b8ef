"""`pt doctor`."""

from __future__ import annotations

import click

from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import PRINT_JSON


@click.command()
@PRINT_JSON
def doctor(as_json: JsonPlace | None) -> None:
    """Try every library on this machine, and say what is missing, for you or for a bug report.

    Nothing is sent or downloaded, and what is printed names neither you nor this machine. Exits with 1 if
    something that is installed does not work.
    """
    from device_sim.doctor.examination import examine
    from device_sim.doctor.rendering import tables, verdict
    from personality_common.terminal.console import ConsoleReporter, output

    found = examine(ConsoleReporter())
    if not emitted(as_json, found.to_json()):
        for table in tables(found):
            output.print(table)
            output.print()
        output.print(verdict(found), soft_wrap=True)
    if not found.works:
        raise click.exceptions.Exit(1)
