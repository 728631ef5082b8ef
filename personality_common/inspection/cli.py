"""`pt inspect`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from personality_common.coreml.limits import Limits
from personality_common.inspection.config import InspectConfig
from personality_common.inspection.reading import inspect_path, to_json
from personality_common.inspection.rendering import render
from personality_common.terminal.options import PRINT_JSON, dataclass_options

_PIPE_WIDTH: Final = 200
"""Lines in a file are for grep, not for a screen."""


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@dataclass_options(InspectConfig, skip=("path",))
@PRINT_JSON
def inspect(path: Path, as_json: bool, **options: Any) -> None:
    """Show what is in PATH: a bundle, an .mlpackage, an .mlmodel, or a run; anyone's."""
    config = InspectConfig(path, **options)
    limits = Limits(model_bytes=config.max_model_mib << 20)
    found = inspect_path(config.path, fingerprints=config.weights, limits=limits)
    if as_json:
        click.echo(to_json(found))
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    render(found, console, weights=config.weights)
