"""`pt pretrain` and `pt predict`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from personality_common.contract import TOP_K
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import DEVICES, STARTS, PretrainConfig

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS: dict[str, Any] = {
    field.name: field.default for cls in (PretrainConfig, DataConfig) for field in dataclasses.fields(cls)
}


def _option(name: str, **settings: Any) -> Callable[[F], F]:
    """An option whose default is the config's, shown in --help."""
    default = _DEFAULTS[name.removeprefix("--").replace("-", "_")]
    return click.option(name, default=default, show_default=default is not None, **settings)


@click.command()
@click.option(
    "--data",
    "source",
    required=True,
    metavar="PATH|hf:OWNER/NAME",
    help="Conversations: a file, a folder, or a hub dataset (streamed).",
)
@click.option(
    "--output-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The run: weights, checkpoints, history, embedding cache.",
)
@_option(
    "--tokens", type=click.Path(path_type=Path), help="The app's own vocabulary; one ships with the toolkit."
)
@_option("--encoder", metavar="minilm|openai|auto|DIR", help="What turns text into base embeddings.")
@_option("--epochs", type=int, help="Passes over the training texts.")
@_option("--batch-size", type=int, help="Texts per step, over all processes.")
@_option("--lr", type=float, help="First learning rate of the cosine schedule; by default the start's own.")
@_option("--max-samples", type=int, help="Stop reading after so many distinct texts.")
@_option("--unit", type=click.Choice(["turn", "conversation"]), help="What counts as one text.")
@_option("--val-fraction", type=float, help="Share of the texts held out for validation.")
@_option("--dropout", type=float, help="Share of the residual branches' outputs dropped in training.")
@_option("--seed", type=int, help="Of weights, order and dropout.")
@_option("--resume", is_flag=True, help="Go on where a killed run stopped; start where there is none.")
@_option("--device", type=click.Choice(DEVICES), help="Where to compute.")
@_option(
    "--start", type=click.Choice(STARTS), help="teacher: begin at the targets' ranking; plain: at random."
)
@_option("--skip-bad-records", is_flag=True, help="Count malformed records and go on, instead of stopping.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def pretrain(as_json: bool, **options: Any) -> None:
    """Train a personality model from the human turns of conversations.

    In many processes: torchrun --nproc-per-node N -m pretrain, with the same options.
    """
    data_fields = {field.name for field in dataclasses.fields(DataConfig)}
    data = DataConfig(**{key: value for key, value in options.items() if key in data_fields})
    rest = {key: value for key, value in options.items() if key not in data_fields}
    config = PretrainConfig(data=data, **rest)

    import numpy as np

    from personality_common.runs.processes import join_processes, restarts
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.progress import Silent
    from pretrain.personality.pipeline import CURVE_FILE
    from pretrain.personality.pipeline import pretrain as run_pretrain

    with join_processes() as processes:
        reporter = ConsoleReporter() if processes.leads else Silent()
        # torchrun starts the same command again when a process has died.
        if any(count.item() for count in processes.gather(np.array([restarts()]))):
            config = dataclasses.replace(config, resume=True)
        try:
            result = run_pretrain(config, reporter, processes)
        except KeyboardInterrupt:
            reporter.say("stopped; what was finished is kept: the same command with --resume goes on")
            raise
    if not processes.leads:
        return
    final = result.history[-1]
    if as_json:
        summary = {"run": str(result.run), "embedded": result.embedded, "quality": final}
        click.echo(json.dumps(summary))
        return
    output.print(f"run             {result.run}", soft_wrap=True)
    output.print(f"learning curve  {result.run / CURVE_FILE}", soft_wrap=True)
    output.print(
        f"held-out texts  top-5 recall {final['val_top5_recall']:.4f}  top-8 recall "
        f"{final['val_top8_recall']:.4f}  NDCG@8 {final['val_ndcg8']:.4f}  loss {final['val_loss']:.6f} "
        f"(floor {final['val_loss_floor']:.6f})",
        soft_wrap=True,
    )


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar='["TEXT" …]')
@click.option("--top-k", default=TOP_K, show_default=True, help="Tokens per text.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array: text, tokens, probabilities.")
def predict(run: Path, texts: tuple[str, ...], top_k: int, as_json: bool) -> None:
    """Top tokens of texts, from a run; without texts, of each line of standard input."""
    if not texts and not sys.stdin.isatty():
        texts = tuple(line.strip() for line in sys.stdin if line.strip())
    if not texts:
        raise click.UsageError('no text: give "TEXT" arguments, or lines on standard input')

    from pretrain.personality.prediction import predict as run_predict
    from pretrain.personality.run import load_run

    predictions = run_predict(load_run(run), texts, top_k)
    if as_json:
        json.dump([dataclasses.asdict(p) for p in predictions], sys.stdout, ensure_ascii=False)
        click.echo()
        return
    from personality_common.terminal.console import output
    from pretrain.personality.rendering import prediction_table

    output.print(prediction_table(predictions))
