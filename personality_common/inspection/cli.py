"""`pt inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from personality_common.coreml.limits import Limits
from personality_common.inspection.config import InspectConfig
from personality_common.inspection.reading import inspect_path, problems_of, to_json
from personality_common.inspection.rendering import render
from personality_common.terminal.console import wide_output
from personality_common.terminal.options import PRINT_JSON, dataclass_options


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@dataclass_options(InspectConfig, skip=("path",))
@PRINT_JSON
def inspect(path: Path, as_json: bool, **options: Any) -> None:
    """Show what is in PATH: a bundle, an .mlpackage, an .mlmodel, an .onnx file, or a run; anyone's.

    Exits with 1 if something that was read is damaged, and says what.
    """
    config = InspectConfig(path, **options)
    limits = Limits(model_bytes=config.max_model_mib << 20)
    found = inspect_path(config.path, fingerprints=config.weights, limits=limits)
    if as_json:
        click.echo(to_json(found))
    else:
        render(found, wide_output(), weights=config.weights)
    if problems_of(found):
        raise click.exceptions.Exit(1)
