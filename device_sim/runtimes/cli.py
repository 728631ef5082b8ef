"""`pt run`."""

from __future__ import annotations

from pathlib import Path

import click

from device_sim.runtimes.config import RUNTIMES, RunConfig
from personality_common.terminal.limit_options import max_model_mib, max_seconds

_DEFAULTS = {name: field.default for name, field in RunConfig.__dataclass_fields__.items()}


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "input_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.npz|.json",
    help="Arrays by the names of the package's inputs; one with a state buffer's name fills it.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Outputs by name.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default=_DEFAULTS["runtime"],
    show_default=True,
    help="The interpreter, or Core ML itself (macOS).",
)
@max_model_mib
@max_seconds
def run(
    package: Path, input_file: Path, output: Path, runtime: str, max_model_mib: int, max_seconds: float
) -> None:
    """Run PACKAGE, an .mlpackage or .mlmodel, on arrays from a file."""
    config = RunConfig(package, input_file, output, runtime, max_model_mib, max_seconds)

    from device_sim.runtimes.running import run_package
    from personality_common.terminal.console import ConsoleReporter
    from personality_common.terminal.console import output as console

    result = run_package(config, ConsoleReporter())
    for name, array in result.outputs.items():
        console.print(f"{name}  {array.dtype.name}  {tuple(array.shape)}", soft_wrap=True)
    console.print(f"written to {output}", soft_wrap=True)
