"""`pt inspect` and `pt diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from personality_common.inspection.comparing import compare_paths
from personality_common.inspection.config import DiffConfig, InspectConfig
from personality_common.inspection.diff_rendering import render_comparison
from personality_common.inspection.reading import inspect_path, problems_of, to_json
from personality_common.inspection.rendering import render
from personality_common.terminal.console import wide_output
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import GIVEN, PRINT_JSON, dataclass_options


@click.command()
@click.argument("path", type=GIVEN)
@dataclass_options(InspectConfig, skip=("path",))
@PRINT_JSON
def inspect(path: Path, as_json: JsonPlace | None, **options: Any) -> None:
    """Show what is in PATH: a bundle, an .mlpackage, an .mlmodel, an .onnx file, or a run; anyone's.

    Exits with 1 if something that was read is damaged, and says what.
    """
    config = InspectConfig(path, **options)
    found = inspect_path(config.path, fingerprints=config.weights, cost=config.cost, limits=config.limits)
    if not emitted(as_json, lambda: to_json(found)):
        render(found, wide_output(), weights=config.weights)
    if problems_of(found):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("a", type=GIVEN)
@click.argument("b", type=GIVEN)
@dataclass_options(DiffConfig, skip=("a", "b"))
@PRINT_JSON
def diff(a: Path, b: Path, as_json: JsonPlace | None, **options: Any) -> None:
    """What changed from A to B: two .mlpackage or .mlmodel, or two bundles; anyone's.

    Features, operations and layers, weights, metadata, what the device may train, and any other field.
    Exits with 0 if they are the same, with 1 if they differ, and with 3 if they cannot be compared.
    """
    config = DiffConfig(a, b, **options)
    comparison = compare_paths(config.a, config.b, config.limits)
    if not emitted(as_json, lambda: to_json(comparison)):
        render_comparison(comparison, wide_output())
    if not comparison.same:
        raise click.exceptions.Exit(1)
