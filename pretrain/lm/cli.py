"""`pt lm`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personality_common.endpoint.config import EndpointConfig
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import (
    FILE,
    FOLDER,
    GIVEN,
    PRINT_JSON,
    attribute_docs,
    dataclass_options,
    take,
)
from pretrain.lm.chat import PERSPECTIVES, Perspective
from pretrain.lm.config import (
    FORMATS,
    QUANTIZATIONS,
    DataConfig,
    EvalConfig,
    ExportConfig,
    TokenizerConfig,
    TrainConfig,
)

if TYPE_CHECKING:
    from pretrain.lm.talk import Talk


@click.group()
def lm() -> None:
    """Train a small language model that llama.cpp, transformers and Ollama run."""


@lm.command()
@click.argument("mix", type=GIVEN, required=False)
@click.option("--out", required=True, type=FOLDER, metavar="DATA", help="Folder for the documents.")
@PRINT_JSON
def data(mix: Path | None, out: Path, as_json: JsonPlace | None) -> None:
    """Documents to train with, from a mix file: without duplicates, divided, checked for leaks.

    Without MIX, the one that comes with the toolkit: generated documents alone.
    """
    config = DataConfig(mix, out)

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.lm.data.build import build_data

    record = build_data(config, ConsoleReporter())
    if emitted(as_json, dataclasses.asdict(record)):
        return
    for source in record.sources:
        dropped = source.exact_duplicates + source.near_duplicates
        output.print(
            f"{source.name}: {source.train.documents:,} train, {source.validation.documents:,} validation, "
            f"{source.test.documents:,} test; {dropped:,} duplicates left out; {source.licence}",
            soft_wrap=True,
        )
    output.print(f"data  {out}", soft_wrap=True)


@lm.command()
@click.argument("data", type=GIVEN)
@click.option("--out", required=True, type=FOLDER, metavar="TOK", help="Folder for the tokenizer.")
@dataclass_options(TokenizerConfig)
def tokenizer(data: Path, out: Path, **options: Any) -> None:
    """Learn a tokenizer from the training documents of DATA."""
    config = take(TokenizerConfig, options)

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.lm.pipeline import make_tokenizer

    made = make_tokenizer(data, out, config, ConsoleReporter())
    output.print(f"tokenizer  {out}: {made.vocab_size} tokens", soft_wrap=True)


@lm.command()
@click.argument("data", type=GIVEN)
@dataclass_options(
    TrainConfig,
    skip=("data", "resume"),
    types={"output_dir": FOLDER},
    metavars={"tokenizer": "TOK", "output_dir": "RUN"},
)
@click.option("--resume", is_flag=True, help="Go on where a killed run stopped; start where there is none.")
@PRINT_JSON
def train(as_json: JsonPlace | None, **options: Any) -> None:
    """Train a decoder on the documents of DATA.

    In many processes: torchrun --nproc-per-node N -m personality_common.cli lm train, with the same options.
    """
    config = take(TrainConfig, options)

    import numpy as np

    from personality_common.runs.allocation import keep_freed_memory
    from personality_common.runs.keeping import choose
    from personality_common.runs.processes import join_processes, restarts
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.progress import SILENT
    from pretrain.lm.pipeline import train_lm
    from pretrain.lm.rendering import health_tables
    from pretrain.lm.run import CURVE_FILE

    keep_freed_memory()
    with join_processes() as processes:
        reporter = ConsoleReporter() if processes.leads else SILENT
        # torchrun starts the same command again when a process has died.
        if any(count.item() for count in processes.gather(np.array([restarts()]))):
            config = dataclasses.replace(config, resume=True, overwrite=False)
        try:
            result = train_lm(config, reporter, processes)
        except KeyboardInterrupt:
            reporter.say("stopped; what was finished is kept: the same command with --resume goes on")
            raise
    if not processes.leads:
        return
    kept = choose(result.history, "step", config.keep)
    found = {"run": str(result.run), "history": result.history, "kept": kept.record()}
    if emitted(as_json, found):
        return
    for table in health_tables(result.history):
        output.print(table)
    output.print(f"run             {result.run}", soft_wrap=True)
    output.print(f"learning curve  {result.run / CURVE_FILE}", soft_wrap=True)
    if kept.sentence:
        output.print(f"kept            {kept.sentence}", soft_wrap=True)
    output.print(f"held-out loss   {kept.entry['val_loss']:.4f} nats a token", soft_wrap=True)


@lm.command(name="eval")
@click.argument("run", type=GIVEN)
@dataclass_options(EvalConfig, skip=("run",))
@click.option("--html", type=FILE, help="Write a page; it quotes test documents.")
@PRINT_JSON
def evaluate(html: Path | None, as_json: JsonPlace | None, **options: Any) -> None:
    """Measure a run on test documents: bits per byte, calls, reasoning, perspectives."""
    config = take(EvalConfig, options)

    from personality_common.files.atomic import atomic_writer
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command
    from pretrain.lm.evaluation import evaluate as run_evaluate
    from pretrain.lm.evaluation_page import page
    from pretrain.lm.rendering import evaluation_tables

    evaluation = run_evaluate(config, ConsoleReporter())
    if html is not None:
        with atomic_writer(html, private=True) as file:
            file.write(page(evaluation, config.run.resolve().name, this_command()).encode())
    if emitted(as_json, evaluation.to_json()):
        return
    for table in evaluation_tables(evaluation):
        output.print(table)


@lm.command()
@click.argument("run", type=GIVEN)
@click.option(
    "--out", required=True, type=FOLDER, metavar="FOLDER", help="A new folder, or an earlier export."
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
@PRINT_JSON
def export(as_json: JsonPlace | None, formats: str, quantize: str, **options: Any) -> None:
    """Export a run for llama.cpp, transformers, MLX and Ollama."""
    lists = {"formats": formats, "quantize": quantize}
    config = take(ExportConfig, options | {k: tuple(filter(None, v.split(","))) for k, v in lists.items()})

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.lm.export.folder import export as run_export

    result = run_export(config, ConsoleReporter())
    if emitted(as_json, dataclasses.asdict(result.manifest)):
        return
    for name, entry in result.manifest.files.items():
        output.print(f"{entry.bytes:>13,}  {name}", soft_wrap=True)
    output.print(f"folder  {result.folder}", soft_wrap=True)


@lm.command()
@click.argument("source", type=GIVEN, metavar="FOLDER|FILE.gguf")
@click.argument("text")
@click.option("--tools", required=True, type=GIVEN, help="A list, as OpenAI's clients send it.")
@click.option("--system", default="", help="What the model is told first.")
@click.option("--perspective", type=click.Choice(PERSPECTIVES), help="The tag after the user's mark.")
def call(source: Path, text: str, tools: Path, system: str, perspective: Perspective | None) -> None:
    """Have llama.cpp call one of the tools, or say that none fits: JSON, under a grammar."""
    from pretrain.lm.bundle.folder import served_file
    from pretrain.lm.calls import ask, read_tools
    from pretrain.lm.llama import Llama

    offered = read_tools(tools)
    answer = ask(Llama(served_file(source)), offered, text, perspective, system)
    click.echo(json.dumps(dataclasses.asdict(answer)))


@lm.command()
@click.argument("source", type=GIVEN, metavar="RUN|FOLDER|FILE.gguf")
@click.option("--system", default="", help="What the model is told first.")
@click.option(
    "--perspective",
    type=click.Choice(PERSPECTIVES),
    help="Of a model of pt lm: the tag after the user's mark.",
)
def chat(source: Path, system: str, perspective: Perspective | None) -> None:
    """Talk to a model: a line is a message. What comes from a pipe is answered line by line.

    At a terminal, /new starts anew, /perspective NAME changes it, and Ctrl-D ends.
    """
    import sys

    from personality_common.terminal.console import errors, output
    from personality_common.terminal.streams import input_lines
    from pretrain.lm.serving import open_model
    from pretrain.lm.source import gguf_of, name_of
    from pretrain.lm.talk import Talk

    with gguf_of(source) as file:
        model = open_model(file, name_of(source))
        if perspective and perspective not in model.card.variants:
            raise click.UsageError(f"--perspective is for models of pt lm, {source} is another")
        talk = Talk(model, system, perspective or "")
        at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        for text in _typed(talk, model.card.variants) if at_terminal else input_lines():
            try:
                for piece in talk.answer(text):
                    output.print(piece, end="", soft_wrap=True)
            finally:
                output.print()
        if talk.forgotten:
            errors.print(f"{talk.forgotten} messages no longer fitted into the context", soft_wrap=True)


def _typed(talk: Talk, perspectives: Sequence[str]) -> Iterator[str]:
    """Lines of a terminal; those that begin with / are obeyed."""
    from personality_common.terminal.console import errors, output

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history for `input`)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            output.print()
            return
        word, _, name = line.partition(" ")
        if word == "/new":
            talk.start_anew()
        elif word == "/perspective" and name in ("", *perspectives):
            talk.variant = name
        elif word.startswith("/"):
            errors.print(
                f"/new, or /perspective with one of {', '.join(perspectives) or 'none'}", soft_wrap=True
            )
        elif line:
            yield line


@lm.command()
@click.argument("source", type=GIVEN, metavar="RUN|FOLDER|FILE.gguf")
@dataclass_options(EndpointConfig, skip=("api_key",))
@click.option(
    "--api-key", envvar="PT_API_KEY", help=f"{attribute_docs(EndpointConfig)['api_key']}", metavar="KEY"
)
def serve(source: Path, **options: Any) -> None:
    """Serve a model to clients of OpenAI and of Ollama, and to a browser: of this machine by default."""
    config = take(EndpointConfig, options)

    from personality_common.endpoint.listening import listen
    from personality_common.endpoint.server import Endpoint
    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.lm.serving import open_model
    from pretrain.lm.source import gguf_of, name_of

    reporter = ConsoleReporter()
    if not config.is_local:
        reporter.warn("others can reach this endpoint, and read on the way what is said: put TLS before it")
    with listen(config) as wire, gguf_of(source) as file:
        endpoint = Endpoint(open_model(file, name_of(source)), config, reporter=reporter, wire=wire)
        output.print(
            f"{endpoint.model.card.name} at {endpoint.address}, for OpenAI's clients {endpoint.address}/v1; "
            "Ctrl-C ends it",
            soft_wrap=True,
        )
        endpoint.run()
