"""`pt trace`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from device_sim.trace.config import AGAINST, TraceConfig
from personality_common.terminal.limit_options import max_model_mib, max_seconds

_DEFAULTS: Final = {name: field.default for name, field in TraceConfig.__dataclass_fields__.items()}
_PIPE_WIDTH: Final = 200


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--input",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz|.json",
    help="The model's inputs by name; other arrays in the file are left alone.",
)
@click.option(
    "--against",
    type=click.Choice(AGAINST),
    default=_DEFAULTS["against"],
    show_default=True,
    help="float16: all values and weights, against float64. int8: the weights of matrix products, "
    "one scale per output channel, against float32. torch: the same ops in torch.",
)
@click.option("--top", type=int, default=_DEFAULTS["top"], show_default=True, help="Ops to show.")
@max_model_mib
@max_seconds
@click.option("--json", "as_json", is_flag=True, help="Print both rankings as JSON.")
def trace(
    package: Path,
    input: Path,
    against: str,
    top: int,
    max_model_mib: int,
    max_seconds: float,
    as_json: bool,
) -> None:
    """Say which op of PACKAGE loses the precision.

    Each op is computed by the reference, on the reference's inputs in the lower precision (the
    error it adds), and on inputs of the lower precision (the error that has accumulated).
    """
    config = TraceConfig(package, input, against, top, max_model_mib, max_seconds)

    from device_sim.trace.rendering import report, to_json
    from device_sim.trace.trace import trace_file

    traced = trace_file(config)
    if as_json:
        click.echo(to_json(config, traced.records))
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(report(config, traced.records, traced.outputs, console.width))
