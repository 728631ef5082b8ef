"""`pt character`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FOLDER, GIVEN, PRINT_JSON, dataclass_options, take
from pretrain.character.config import FORMATS, DataConfig, ExportConfig, TrainConfig


@click.group()
def character() -> None:
    """Predict what a story's character does, says, notices and feels."""


@character.command()
@click.option("--out", required=True, type=FOLDER, metavar="DATA", help="Folder for the examples.")
@dataclass_options(DataConfig, skip=("out",))
@PRINT_JSON
def data(as_json: JsonPlace | None, **options: Any) -> None:
    """Generate examples, with exactly how likely each label was."""
    config = take(DataConfig, options)

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.character.generation import generate_data

    result = generate_data(config, ConsoleReporter())
    if emitted(as_json, result.manifest):
        return
    output.print(
        f"data  {result.folder}: {result.manifest['total_valid']} examples, "
        f"{result.unseen} of unseen archetypes, coherence {result.manifest['mean_coherence']:.3f}",
        soft_wrap=True,
    )


@character.command()
@click.option("--data", required=True, type=GIVEN, help="Folder of pt character data, or a JSONL file.")
@click.option("--output-dir", required=True, type=FOLDER, metavar="RUN", help="The run.")
@dataclass_options(TrainConfig, skip=("data", "output_dir", "resume"))
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where a killed run stopped, or a finished one with fewer epochs; start where there is none.",
)
@PRINT_JSON
def train(as_json: JsonPlace | None, **options: Any) -> None:
    """Train a network from examples."""
    config = take(TrainConfig, options)

    from personality_common.runs.keeping import choose
    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.character.pipeline import train_character
    from pretrain.character.run import CURVE_FILE

    reporter = ConsoleReporter()
    try:
        result = train_character(config, reporter)
    except KeyboardInterrupt:
        reporter.say("stopped; what was finished is kept: the same command with --resume goes on")
        raise
    kept = choose(result.history, "epoch", config.keep)
    quality = dict(kept.entry)
    if emitted(as_json, {"run": str(result.run), "quality": quality, "kept": kept.record()}):
        return
    output.print(f"run             {result.run}", soft_wrap=True)
    output.print(f"learning curve  {result.run / CURVE_FILE}", soft_wrap=True)
    if kept.sentence:
        output.print(f"kept            {kept.sentence}", soft_wrap=True)
    loss, epoch = quality["val_loss"], quality["epoch"]
    output.print(f"held-out loss   {loss:.4f} after {epoch} epochs", soft_wrap=True)


@character.command(name="eval")
@click.argument("run", type=GIVEN)
@click.option("--data", type=GIVEN, help="Other data than the run was trained with.")
@PRINT_JSON
def evaluate(run: Path, data: Path | None, as_json: JsonPlace | None) -> None:
    """Measure a run beside its baselines and what nobody can do better."""
    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.character.evaluation import evaluate as run_evaluate
    from pretrain.character.rendering import evaluation_tables
    from pretrain.character.run import load_run

    evaluation = run_evaluate(load_run(run), data, ConsoleReporter())
    if emitted(as_json, evaluation.to_json()):
        return
    for table in evaluation_tables(evaluation):
        output.print(table)


@character.command()
@click.argument("run", type=GIVEN)
@click.option(
    "--out", required=True, type=FOLDER, metavar="FOLDER", help="A new folder, or an earlier export."
)
@click.option(
    "--formats",
    default=",".join(FORMATS),
    show_default=True,
    help="onnx, coreml, or both with a comma between.",
)
@dataclass_options(ExportConfig, skip=("run", "out", "formats"))
@PRINT_JSON
def export(as_json: JsonPlace | None, formats: str, **options: Any) -> None:
    """Export a run to ONNX and Core ML."""
    config = take(ExportConfig, options | {"formats": tuple(filter(None, formats.split(",")))})

    from personality_common.terminal.console import ConsoleReporter, output
    from pretrain.character.export.bundle import export as run_export

    result = run_export(config, ConsoleReporter())
    if emitted(as_json, dataclasses.asdict(result.manifest)):
        return
    for name, entry in result.manifest.files.items():
        output.print(f"{entry.bytes:>10,}  {name}", soft_wrap=True)
    output.print(f"folder  {result.folder}", soft_wrap=True)


@character.command()
@click.argument("source", type=GIVEN, metavar="RUN|FOLDER")
@click.option("--input", "path", required=True, type=GIVEN, help="JSONL: a description per line.")
@click.option(
    "--sample/--argmax",
    default=True,
    show_default=True,
    help="Draw action, context and register from their probabilities, or take the likeliest.",
)
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@click.option("--prompt", is_flag=True, help="Print the block for a language model's prompt.")
def predict(source: Path, path: Path, sample: bool, seed: int, prompt: bool) -> None:
    """Answers for descriptions: JSON lines, or prompt blocks."""
    from personality_common.terminal.console import output
    from pretrain.character.prediction import open_source
    from pretrain.character.prediction import predict as run_predict

    predictions = run_predict(open_source(source), path, seed if sample else None)
    if prompt:
        output.print("\n\n".join(prediction.prompt() for prediction in predictions), soft_wrap=True)
        return
    for prediction in predictions:
        click.echo(json.dumps(prediction.to_json()))
