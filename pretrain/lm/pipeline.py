"""`pt lm tokenizer` and `pt lm train`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from personality_common.contract import CHECKPOINTS_DIR, HISTORY_FILE
from personality_common.errors import ConfigError, DataError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.files.staging import staged_folder
from personality_common.runs.curve import Panel, draw_learning_curve
from personality_common.runs.device import choose_device, fast_dtype, seed_everything
from personality_common.runs.folder import WORK_DIR, hold_run, publish, take_up
from personality_common.runs.keeping import choose
from personality_common.runs.processes import ALONE, Processes
from personality_common.runs.record import new_record, save_weights
from personality_common.runs.tracking import require_tracker, tracking
from personality_common.terminal.progress import Reporter, Stage
from pretrain.lm.chat import LossConfig
from pretrain.lm.config import ModelConfig, TokenizerConfig, TrainConfig, sized
from pretrain.lm.data.folder import Data, SplitName, open_data
from pretrain.lm.memory import estimate, require_fit
from pretrain.lm.model import Decoder
from pretrain.lm.packing import Encoded, Fill, open_rows, pack, write_rows
from pretrain.lm.preparation import fields_of, prepare
from pretrain.lm.run import CURVE_FILE, TRAINER, WEIGHTS_FILE, run_entries
from pretrain.lm.tokenizer import TOKENIZER_FILE, Tokenizer, load_tokenizer, train_tokenizer
from pretrain.lm.topics import count_topics
from pretrain.lm.training import train

ROWS_DIR: Final = "rows"
"""Packed documents, in the work folder while it is trained; made anew each time."""
TOLD_EVERY: Final = 500
"""Documents between two words of progress."""
RECORDED_PACKAGES: Final = ("personality-toolkit", "torch", "numpy", "tokenizers")


def make_tokenizer(data: Path, out: Path, config: TokenizerConfig, reporter: Reporter) -> Tokenizer:
    """Learn a tokenizer from the training documents of a folder; `out` is replaced once it is there.

    Raises:
        ConfigError: `out` holds something else.
        DataError: no such data, or a file of it is damaged.
        ToolkitError: the documents are too few for a vocabulary of that size.
    """
    if out.exists() and not (out / TOKENIZER_FILE).is_file():
        raise ConfigError(f"--out must be a new folder or one of pt lm tokenizer, {out} is not")
    opened = open_data(data)
    with reporter.stage("reading", documents_of(opened, "train"), "documents") as stage:
        tokenizer = train_tokenizer(_texts(opened, stage), config)
    with staged_folder(out) as folder:
        tokenizer.save(folder)
    return tokenizer


@dataclass(frozen=True)
class TrainResult:
    """What a run ended with: its folder, and the history as in `training_history.json`."""

    run: Path
    history: list[dict[str, Any]]


def train_lm(config: TrainConfig, reporter: Reporter, processes: Processes = ALONE) -> TrainResult:
    """Pack, train, and publish a run.

    A run that was stopped goes on with `resume`, and ends with the bits it would have had. Several processes
    share the folder: the leader packs and writes, all train together.

    Raises:
        ConfigError: the size is none, or cannot be prepared.
        DataError: no such data or tokenizer, or damaged; nothing to train or to measure on.
        MismatchError: `resume` with other settings or data.
        ToolkitError: it does not fit into memory, or the loss is not finite.
        OSError: no space, no permission.
    """
    data, tokenizer = open_data(config.data), load_tokenizer(config.tokenizer)
    shape = sized(config.size, tokenizer.vocab_size)
    if config.batch_size < processes.size:
        raise ConfigError(
            f"--batch-size must give each of {processes.size} processes a row, got {config.batch_size}"
        )
    if config.prepare:
        fields_of(shape)
    require_tracker(config.track)
    device = choose_device(config.device)
    memory = estimate(shape, config.batch_size, config.optimizer, device, fast_dtype(device))
    reporter.say(f"{shape.parameters:,} parameters; training takes {memory}")
    require_fit(memory, device)
    run, length = config.output_dir, shape.context_length
    plan = _plan(config, shape, device, data, tokenizer, processes)
    processes.require_same(json.dumps(plan), "settings, data and versions")
    with contextlib.ExitStack() as stack:

        def begin() -> bool:
            if not processes.leads:
                return False
            stack.enter_context(hold_run(run, config.resume, config.overwrite))
            return take_up(run, plan, config.resume, reporter)

        finished = any(processes.gather_text("finished" if processes.share(begin) else ""))
        track = stack.enter_context(tracking(config.track if processes.leads else None, run, "step"))
        if finished:
            history = read_json_object(run / HISTORY_FILE)["evaluations"]
            track(history)
            return TrainResult(run, history)
        work = run / WORK_DIR
        rows = work / ROWS_DIR
        fill = Fill(length)
        processes.share(lambda: _pack(data, tokenizer, fill, rows, reporter) if processes.leads else None)
        packed, held_out = (open_rows(rows / f"{split}.bin", length) for split in ("train", "validation"))
        seed_everything(config.seed)
        model = Decoder(shape)
        if config.prepare:
            prepare(model, count_topics(data.documents("train"), tokenizer), config.seed)
        folder = work / CHECKPOINTS_DIR
        history = train(model, packed, held_out, config, device, folder, reporter, processes, track)
        del packed, held_out
        if processes.leads:
            shutil.rmtree(rows)
            _warn_of_overfitting(history, reporter)
            record = _write_results(work, model, tokenizer, config, history)
            publish(run, record | _source(config, data, fill))
    return TrainResult(run, history)


def documents_of(data: Data, split: SplitName) -> int:
    """How many a split has."""
    return sum(shard.documents for shard in data.record.files.values() if shard.split == split)


def _texts(data: Data, stage: Stage) -> Iterator[str]:
    for number, document in enumerate(data.documents("train"), 1):
        for turn in document.turns:
            yield turn.text
        if number % TOLD_EVERY == 0:
            stage.advance(TOLD_EVERY)


def _pack(data: Data, tokenizer: Tokenizer, fill: Fill, folder: Path, reporter: Reporter) -> None:
    """Write the rows of the training documents, which `fill` counts, and of those that are measured on."""
    folder.mkdir(exist_ok=True)
    counts: dict[SplitName, Fill] = {"train": fill, "validation": Fill(fill.length)}
    for split, count in counts.items():
        with reporter.stage(f"packing {split}", documents_of(data, split), "documents") as stage:
            # What is measured is what answers cost, whatever counts in training.
            loss = data.record.loss if split == "train" else LossConfig()
            encoded = _encoded(data, split, tokenizer, loss, stage)
            write_rows(pack(encoded, count.length, count), folder / f"{split}.bin")
        if not count.rows:
            raise DataError(f"{data.folder}: must have documents to learn from in {split}, has none")
    reporter.say(
        f"{fill.rows:,} rows of {fill.length} from {fill.documents:,} documents, {fill.rate:.1%} full, "
        f"{fill.targets:,} targets; {fill.cut:,} documents are longer and were cut"
    )


def _encoded(
    data: Data, split: SplitName, tokenizer: Tokenizer, loss: LossConfig, stage: Stage
) -> Iterator[Encoded]:
    for number, document in enumerate(data.documents(split), 1):
        yield tokenizer.encode_weighted(document, loss)
        if number % TOLD_EVERY == 0:
            stage.advance(TOLD_EVERY)


def _warn_of_overfitting(history: list[dict[str, Any]], reporter: Reporter) -> None:
    best = min(history, key=lambda entry: float(entry["val_loss"]))
    if best is not history[-1]:
        reporter.warn(
            f"the held-out loss was {best['val_loss']:.4f} after step {best['step']} and is "
            f"{history[-1]['val_loss']:.4f} at the end; with fewer --tokens, or more data, it need not rise"
        )


def _plan(
    config: TrainConfig,
    shape: ModelConfig,
    device: str,
    data: Data,
    tokenizer: Tokenizer,
    processes: Processes,
) -> dict[str, Any]:
    """All that the bits of the result depend on."""
    return {
        "data_fingerprint": data.fingerprint,
        "loss": asdict(data.record.loss),
        **run_entries(shape, tokenizer),
        "tokens": config.tokens,
        "batch_size": config.batch_size,
        "optimizer": config.optimizer,
        "lr": config.lr,
        "muon_lr": config.muon_lr,
        "evaluate_every": config.evaluate_every,
        "seed": config.seed,
        **({"keep": "last"} if config.keep == "last" else {}),
        "prepare": config.prepare,
        "device": device,
        "threads": torch.get_num_threads(),
        "processes": processes.size,
        "torch": torch.__version__,
    }


def _write_results(
    work: Path, model: Decoder, tokenizer: Tokenizer, config: TrainConfig, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything but `run.json`, which it returns, less what is said of the data."""
    entries = run_entries(model.config, tokenizer)
    metadata = {"tokenizer_sha256": str(entries["tokenizer_sha256"])}
    tensors = save_weights(work, {WEIGHTS_FILE: model.cpu()}, metadata)
    tokenizer.save(work)
    write_json(work / HISTORY_FILE, {"evaluations": history})
    draw_learning_curve("step", [entry["step"] for entry in history], _panels(history), work / CURVE_FILE)
    kept = choose(history, "step", config.keep)
    record = new_record(TRAINER, config, RECORDED_PACKAGES, kept.entry, tensors)
    return record | entries | {"kept": kept.record()}


def _panels(history: list[dict[str, Any]]) -> list[Panel]:
    held_out = [float(entry["val_loss"]) for entry in history]
    # The start has no training loss yet.
    trained = [float(entry.get("train_loss", entry["val_loss"])) for entry in history]
    top = 1.05 * max(held_out + trained)
    lines = {"held out": held_out, "training, since the point before": trained}
    return [Panel("loss (nats a token)", lines, (0, top))]


def _source(config: TrainConfig, data: Data, fill: Fill) -> dict[str, Any]:
    return {
        "data": {
            "source": str(config.data),
            "fingerprint": data.fingerprint,
            "documents": fill.documents,
            "cut": fill.cut,
            "rows": fill.rows,
            "fill_rate": round(fill.rate, 4),
            "targets": fill.targets,
        }
    }
