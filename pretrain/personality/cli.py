"""`pt pretrain`, `pt predict` and `pt evaluate`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from personality_common.contract import TOP_K
from personality_common.terminal.command import GroupedOption
from personality_common.terminal.json_output import JsonPlace, emitted, json_option
from personality_common.terminal.options import (
    ALLOW_REMOTE,
    FILE,
    FOLDER,
    GIVEN,
    PRINT_JSON,
    F,
    attribute_docs,
    dataclass_options,
    take,
)
from personality_common.terminal.report_files import ReportFiles
from personality_common.terminal.streams import input_lines
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import EvaluateConfig, PretrainConfig

PREDICTIONS: Final = 1
"""Schema of what `pt predict` writes as JSON, after `predictions.schema.json`."""
_DATA: Final = "Data"


def data_options(command: F) -> F:
    """Those of `DataConfig`; --data may be given several times."""
    several = click.option(
        "--data", "source", multiple=True, required=True, metavar="PATH|hf:OWNER/NAME",
        help=attribute_docs(DataConfig)["source"], cls=GroupedOption, heading=_DATA,
    )  # fmt: skip
    return several(dataclass_options(DataConfig, skip=("source",), heading=_DATA)(command))


def take_data(options: dict[str, Any]) -> DataConfig:
    """One source is a string, as it was when there could be no others: `run.json` has it."""
    source = options.pop("source")
    config: DataConfig = take(DataConfig, options, source=source[0] if len(source) == 1 else source)
    return config


@click.command()
@data_options
@dataclass_options(
    PretrainConfig,
    skip=("data",),
    types={"output_dir": FOLDER, "cache_dir": FOLDER},
    metavars={"encoder": "minilm|openai|auto|DIR"},
    heading="Training",
)
@PRINT_JSON
def pretrain(as_json: JsonPlace | None, **options: Any) -> None:
    """Train a personality model from the human turns of conversations.

    In many processes: torchrun --nproc-per-node N -m pretrain, with the same options.
    """
    data = take_data(options)
    config = PretrainConfig(data=data, **options)

    import numpy as np

    from personality_common.runs.keeping import choose
    from personality_common.runs.processes import join_processes, restarts
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.progress import SILENT
    from pretrain.personality.pipeline import CURVE_FILE
    from pretrain.personality.pipeline import pretrain as run_pretrain

    with join_processes() as processes:
        reporter = ConsoleReporter() if processes.leads else SILENT
        # torchrun starts the same command again when a process has died.
        if any(count.item() for count in processes.gather(np.array([restarts()]))):
            config = dataclasses.replace(config, resume=True, overwrite=False)
        try:
            result = run_pretrain(config, reporter, processes)
        except KeyboardInterrupt:
            reporter.say("stopped; what was finished is kept: the same command with --resume goes on")
            raise
    if not processes.leads:
        return
    kept = choose(result.history, "epoch", config.keep)
    final = kept.entry
    summary = {"run": str(result.run), "embedded": result.embedded, "quality": final}
    if emitted(as_json, summary | {"kept": kept.record()}):
        return
    output.print(f"run             {result.run}", soft_wrap=True)
    output.print(f"learning curve  {result.run / CURVE_FILE}", soft_wrap=True)
    if kept.sentence:
        output.print(f"kept            {kept.sentence}", soft_wrap=True)
    output.print(
        f"held-out texts  top-5 recall {final['val_top5_recall']:.4f}  top-8 recall "
        f"{final['val_top8_recall']:.4f}  NDCG@8 {final['val_ndcg8']:.4f}  loss {final['val_loss']:.6f} "
        f"(floor {final['val_loss_floor']:.6f})",
        soft_wrap=True,
    )


@click.command()
@click.argument("run", type=GIVEN)
@click.argument("texts", nargs=-1, metavar='["TEXT" …]')
@click.option("--top-k", default=TOP_K, show_default=True, help="Tokens per text.")
@click.option("--head", type=GIVEN, help="A head that pt grpo made from this run, in place of the run's own.")
@ALLOW_REMOTE
@PRINT_JSON
@click.option("--json-lines", is_flag=True, help="The same, an object a line.")
def predict(
    run: Path,
    texts: tuple[str, ...],
    top_k: int,
    head: Path | None,
    allow_remote_encoder: bool,
    as_json: JsonPlace | None,
    json_lines: bool,
) -> None:
    """Top tokens of texts, from a run; without texts, of each line of standard input.

    A blank line keeps its place: it has no tokens.
    """
    if not texts and not sys.stdin.isatty():
        texts = tuple(input_lines(blank=True))
    if not any(texts):
        raise click.UsageError('no text: give "TEXT" arguments, or lines on standard input')

    from personality_common.terminal.console import ConsoleReporter
    from pretrain.personality.prediction import Prediction
    from pretrain.personality.prediction import predict as run_predict
    from pretrain.personality.run import load_run

    said = [text for text in texts if text]
    found = iter(run_predict(load_run(run, head), said, top_k, ConsoleReporter(), allow_remote_encoder))
    predictions = [next(found) if text else Prediction("", (), ()) for text in texts]
    if json_lines:
        for prediction in predictions:
            click.echo(json.dumps(dataclasses.asdict(prediction)))
        return
    document = {"schema": PREDICTIONS, "predictions": [dataclasses.asdict(p) for p in predictions]}
    if emitted(as_json, document, private=True):
        return
    from personality_common.terminal.console import output
    from pretrain.personality.rendering import prediction_table

    output.print(prediction_table(predictions))


@click.command()
@click.argument("run", type=GIVEN)
@data_options
@dataclass_options(EvaluateConfig, skip=("data", "allow_remote_encoder"))
@dataclass_options(ReportFiles, skip=("junit", "json"), types={"html": FILE}, heading="Report")
@json_option("json")
@ALLOW_REMOTE
def evaluate(run: Path, **options: Any) -> None:
    """Compare a run's ranking with labels that people gave: records with tokens."""
    files = take(ReportFiles, options)
    data = take_data(options)
    config = EvaluateConfig(data, **options)

    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command
    from pretrain.personality.evaluation import evaluate as run_evaluate
    from pretrain.personality.evaluation_report import figures, page
    from pretrain.personality.rendering import confusion_table, measured_table
    from pretrain.personality.run import load_run

    made = this_command()
    found = run_evaluate(load_run(run), config, ConsoleReporter())
    if files.write("evaluate", (), made, made.on(figures(found)), page(found, made).encode()):
        return
    output.print(measured_table(found))
    output.print()
    output.print(confusion_table(found))
    output.print(
        f"{found.texts} labelled texts, {len(found.tokens)} labels; {found.unlabelled} without, left out",
        soft_wrap=True,
    )
