"""`pt trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from device_sim.trace.config import TraceConfig
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import GIVEN, PRINT_JSON, dataclass_options


@click.command()
@click.argument("package", type=GIVEN)
@dataclass_options(TraceConfig, skip=("package",), metavars={"input": "FILE.npz|.json|.jsonl|.csv|.png|.jpg"})
@PRINT_JSON
def trace(package: Path, as_json: JsonPlace | None, **options: Any) -> None:
    """Say which op of PACKAGE loses the precision.

    Each op is computed by the reference, on the reference's inputs in the lower precision (the
    error it adds), and on inputs of the lower precision (the error that has accumulated).
    """
    config = TraceConfig(package, **options)

    from device_sim.trace.rendering import report, to_json
    from device_sim.trace.trace import trace_file
    from personality_common.terminal.console import wide_output

    traced = trace_file(config)
    if emitted(as_json, lambda: to_json(config, traced.records)):
        return
    wide_output().print(report(config, traced.records, traced.outputs))
