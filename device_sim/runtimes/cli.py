"""`pt run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from device_sim.runtimes.config import RunConfig
from personality_common.terminal.options import FILE, GIVEN, dataclass_options


@click.command()
@click.argument("package", type=GIVEN)
@dataclass_options(
    RunConfig,
    skip=("package",),
    types={"output": FILE, "state_out": FILE},
    metavars={
        "input": "FILE.npz|.json|.jsonl|.csv|.png|.jpg",
        "output": "FILE.npz|.json|.jsonl",
        "state": "FILE.npz",
        "state_out": "FILE.npz",
    },
)
def run(package: Path, **options: Any) -> None:
    """Run PACKAGE, an .mlpackage or .mlmodel, on what a file holds."""
    config = RunConfig(package, **options)

    from device_sim.runtimes.running import run_package
    from personality_common.printable import excerpt
    from personality_common.terminal.console import ConsoleReporter
    from personality_common.terminal.console import output as console

    result = run_package(config, ConsoleReporter())
    for name, value in result.outputs.items():
        shown = (
            f"{value.dtype.name}  {tuple(value.shape)}" if hasattr(value, "dtype") else excerpt(repr(value))
        )
        console.print(f"{name}  {shown}", soft_wrap=True, markup=False)
    if len(result.rows) > 1:
        console.print(f"{len(result.rows)} rows, the last one above", soft_wrap=True)
    console.print(f"written to {config.output}", soft_wrap=True)
