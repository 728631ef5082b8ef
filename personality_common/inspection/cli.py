"""`pt inspect`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from personality_common.coreml.limits import Limits
from personality_common.inspection.reading import inspect_path, to_json
from personality_common.inspection.rendering import render
from personality_common.terminal.limit_options import max_model_mib

_PIPE_WIDTH: Final = 200
"""Lines in a file are for grep, not for a screen."""


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--weights", is_flag=True, help="Add the table of tensors with their fingerprints.")
@max_model_mib
def inspect(path: Path, as_json: bool, weights: bool, max_model_mib: int) -> None:
    """Show what is in PATH: a bundle, an .mlpackage, an .mlmodel, or a run; anyone's."""
    found = inspect_path(path, fingerprints=weights, limits=Limits(model_bytes=max_model_mib << 20))
    if as_json:
        click.echo(to_json(found))
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    render(found, console, weights=weights)
