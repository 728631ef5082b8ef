"""`pt export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FOLDER, GIVEN, PRINT_JSON, dataclass_options
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.rules.family import PARTS

SCHEMA: Final = 1
"""Of the result as JSON, after `export.schema.json`."""


@click.command()
@click.argument("run", type=GIVEN)
@dataclass_options(ExportConfig, skip=("run", "only"), types={"out": FOLDER}, metavars={"out": "BUNDLE"})
@click.option(
    "--only", multiple=True, type=click.Choice(tuple(PARTS)),
    help="Export this part; may be given several times. All, if left out.",
)  # fmt: skip
@PRINT_JSON
def export(run: Path, only: tuple[str, ...], as_json: JsonPlace | None, **options: Any) -> None:
    """Export a run to Core ML packages that an app can ship, and check them."""
    config = ExportConfig(run, only=only or None, **options)

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.personality.export.bundle import export as run_export
    from pretrain.personality.export.rendering import bundle_table

    result = run_export(config, ConsoleReporter())
    packages = {part: entry.file for part, entry in result.manifest.packages.items()}
    made = {"schema": SCHEMA, "bundle": str(config.out), "packages": packages, "seconds": result.seconds}
    if emitted(as_json, made):
        return
    output.print(bundle_table(result.manifest))
    output.print(f"bundle  {config.out}", soft_wrap=True)
