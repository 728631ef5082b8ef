"""`pt lm`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from personality_common.terminal.options import take
from pretrain.lm.chat import PERSPECTIVES, Perspective
from pretrain.lm.config import FORMATS, QUANTIZATIONS, ExportConfig

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def lm() -> None:
    """Train a small language model that llama.cpp, transformers and Ollama run."""


@lm.command()
@click.argument("run", type=_FOLDER)
@click.option(
    "--out", required=True, type=_FOLDER, metavar="FOLDER", help="A new folder, or an earlier export."
)
@click.option(
    "--formats", default=",".join(FORMATS), show_default=True, help="What to write, with commas between."
)
@click.option(
    "--quantize",
    default=",".join(ExportConfig.quantize),
    show_default=True,
    help=f"A GGUF file for each, with commas between; of {', '.join(QUANTIZATIONS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def export(as_json: bool, formats: str, quantize: str, **options: Any) -> None:
    """Export a run for llama.cpp, transformers, MLX and Ollama."""
    lists = {"formats": formats, "quantize": quantize}
    config = take(ExportConfig, options | {k: tuple(filter(None, v.split(","))) for k, v in lists.items()})

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.lm.export.folder import export as run_export

    result = run_export(config, ConsoleReporter())
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result.manifest)))
        return
    for name, entry in result.manifest.files.items():
        output.print(f"{entry.bytes:>13,}  {name}", soft_wrap=True)
    output.print(f"folder  {result.folder}", soft_wrap=True)


@lm.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="FOLDER|FILE.gguf")
@click.argument("text")
@click.option(
    "--tools", required=True, type=click.Path(path_type=Path), help="A list, as OpenAI's clients send it."
)
@click.option("--system", default="", help="What the model is told first.")
@click.option("--perspective", type=click.Choice(PERSPECTIVES), help="The tag after the user's mark.")
def call(source: Path, text: str, tools: Path, system: str, perspective: Perspective | None) -> None:
    """Have llama.cpp call one of the tools, or say that none fits: JSON, under a grammar."""
    from pretrain.lm.bundle.folder import served_file
    from pretrain.lm.calls import ask, read_tools
    from pretrain.lm.llama import Llama

    offered = read_tools(tools)
    answer = ask(Llama(served_file(source)), offered, text, perspective, system)
    click.echo(json.dumps(dataclasses.asdict(answer), ensure_ascii=False))
