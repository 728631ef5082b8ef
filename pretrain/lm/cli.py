"""`pt lm`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from pretrain.lm.config import DataConfig

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def lm() -> None:
    """Train a small language model that llama.cpp, transformers and Ollama run."""


@lm.command()
@click.argument("mix", type=_FILE, required=False)
@click.option("--out", required=True, type=_FOLDER, metavar="DATA", help="Folder for the documents.")
@click.option("--json", "as_json", is_flag=True, help="Print data.json.")
def data(mix: Path | None, out: Path, as_json: bool) -> None:
    """Documents to train with, from a mix file: without duplicates, divided, checked for leaks.

    Without MIX, the one that comes with the toolkit: generated documents alone.
    """
    config = DataConfig(mix, out)

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.lm.data.build import build_data

    record = build_data(config, ConsoleReporter())
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(record)))
        return
    for source in record.sources:
        dropped = source.exact_duplicates + source.near_duplicates
        output.print(
            f"{source.name}: {source.train.documents:,} train, {source.validation.documents:,} validation, "
            f"{source.test.documents:,} test; {dropped:,} duplicates left out; {source.licence}",
            soft_wrap=True,
        )
    output.print(f"data  {out}", soft_wrap=True)
