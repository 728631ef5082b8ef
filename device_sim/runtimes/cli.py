"""`pt run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from device_sim.runtimes.config import RunConfig
from personality_common.terminal.options import FILE, dataclass_options


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@dataclass_options(
    RunConfig,
    skip=("package",),
    types={"output": FILE},
    metavars={"input": "FILE.npz|.json", "output": "FILE.npz"},
)
def run(package: Path, **options: Any) -> None:
    """Run PACKAGE, an .mlpackage or .mlmodel, on arrays from a file."""
    config = RunConfig(package, **options)

    from device_sim.runtimes.running import run_package
    from personality_common.terminal.console import ConsoleReporter
    from personality_common.terminal.console import output as console

    result = run_package(config, ConsoleReporter())
    for name, array in result.outputs.items():
        console.print(f"{name}  {array.dtype.name}  {tuple(array.shape)}", soft_wrap=True)
    console.print(f"written to {config.output}", soft_wrap=True)
