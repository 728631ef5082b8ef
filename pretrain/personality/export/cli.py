"""`pt export`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pretrain.coreml.targets import PRECISIONS, TARGETS
from pretrain.personality.export.config import ENCODER_WEIGHTS, ExportConfig
from pretrain.personality.rules.family import PARTS

_DEFAULTS = {name: field.default for name, field in ExportConfig.__dataclass_fields__.items()}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="The bundle: a new folder, or an earlier bundle, which is replaced once the new one is whole.",
)
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default=_DEFAULTS["target"],
    show_default=True,
    help="The least iOS that the app supports; iOS18 adds the stateful package.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=_DEFAULTS["precision"],
    show_default=True,
    help="Of the ML Programs; a head that Core ML can update is float32 in any case.",
)
@click.option(
    "--encoder-weights",
    type=click.Choice(ENCODER_WEIGHTS),
    default=_DEFAULTS["encoder_weights"],
    show_default=True,
    help="Of the text encoder.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(PARTS)),
    help="Export this part; may be given several times. All, if left out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print bundle, packages and times as JSON.")
def export(
    run: Path,
    out: Path,
    target: str,
    precision: str,
    encoder_weights: str,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export a run to Core ML packages that an app can ship, and check them."""
    config = ExportConfig(run, out, target, precision, encoder_weights, only or None)  # type: ignore[arg-type]

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.personality.export.bundle import export as run_export
    from pretrain.personality.export.rendering import bundle_table

    result = run_export(config, ConsoleReporter())
    if as_json:
        packages = {part: entry.file for part, entry in result.manifest.packages.items()}
        click.echo(json.dumps({"bundle": str(out), "packages": packages, "seconds": result.seconds}))
        return
    output.print(bundle_table(result.manifest))
    output.print(f"bundle  {out}", soft_wrap=True)
