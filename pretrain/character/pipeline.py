"""`pt character train`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from personality_common.contract import CHECKPOINTS_DIR, HISTORY_FILE
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.runs.curve import Panel, draw_learning_curve
from personality_common.runs.folder import WORK_DIR, hold_run, publish, take_up
from personality_common.runs.keeping import choose
from personality_common.runs.record import new_record, save_weights
from personality_common.runs.tracking import require_tracker, tracking
from personality_common.terminal.progress import Reporter
from pretrain.character.bundle.manifest import SCHEMA_FILE
from pretrain.character.calibration import fit_temperatures
from pretrain.character.config import TrainConfig
from pretrain.character.distillation import distilled
from pretrain.character.generation import EXAMPLES_FILE, UNSEEN_FILE
from pretrain.character.model import SeedModel, SkipModel
from pretrain.character.records import Examples, read_examples, subset
from pretrain.character.run import CURVE_FILE, TRAINER, WEIGHTS_FILE, outputs
from pretrain.character.split import Split, split
from pretrain.character.training import fresh_model, train

TEACHERS_DIR: Final = "teachers"
"""Of the checkpoints; gone once their student is there."""
RECORDED_PACKAGES: Final = ("personality-toolkit", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class TrainResult:
    """What a run ended with: its folder, and the history as in `training_history.json`."""

    run: Path
    history: list[dict[str, Any]]


def train_character(config: TrainConfig, reporter: Reporter) -> TrainResult:
    """Read, divide, train, fit temperatures, and publish a run; of drawn labels alone, the network is
    distilled from four.

    See `personality_common.runs.folder` for what a kill leaves.

    Raises:
        DataError: the data are malformed, or too few to divide.
        MismatchError: `resume` with other settings or data than the unfinished run's.
        ToolkitError: another job works in the folder, an unfinished run is in the way, or the loss is not
            finite.
        OSError: a file cannot be written; what was finished is kept.
    """
    run = config.output_dir
    require_tracker(config.track)
    with (
        hold_run(run, config.resume, config.overwrite),
        tracking(config.track, run, "epoch") as track,
    ):
        examples, _ = read_data(config.data)
        parts = split(examples, config.split, config.seed)
        labels = "drawn" if examples.expected is None else "expected"
        reporter.say(
            f"read {len(examples)} examples of schema {examples.schema.name}, {labels} labels: "
            f"{len(parts.train)} train, {len(parts.val)} fit temperatures, {len(parts.test)} are measured"
        )
        plan = _plan(config, examples, parts)
        if take_up(run, plan, config.resume, reporter, "epochs"):
            reporter.say(f"{run}: this run is finished already; nothing to do")
            history = read_json_object(run / HISTORY_FILE)["epochs"]
            track(history)
            return TrainResult(run, history)

        work = run / WORK_DIR
        training, held_out = subset(examples, parts.train), subset(examples, parts.val)
        soft, measured, teachers = training, held_out, work / CHECKPOINTS_DIR / TEACHERS_DIR
        if training.expected is None:
            soft, measured = distilled(training, held_out, config, teachers, reporter)
        model = fresh_model(config, training)
        history = train(model, soft, measured, config, work / CHECKPOINTS_DIR, reporter, track)
        shutil.rmtree(teachers, ignore_errors=True)
        publish(
            run, _write_results(work, model, measured, config, history) | _source(config, examples, parts)
        )
    return TrainResult(run, history)


def read_data(path: Path) -> tuple[Examples, Examples | None]:
    """The examples of a folder or a JSONL file, and those of unseen archetypes, where there are any.

    Raises:
        DataError: no such data, or malformed.
        MismatchError: both files are of one schema, and are not.
    """
    if path.suffix == ".jsonl":
        return read_examples(path), None
    if not (path / EXAMPLES_FILE).is_file():
        raise DataError(
            f"{path}: must be a .jsonl or a folder with {EXAMPLES_FILE}; pt character data makes one"
        )
    unseen = path / UNSEEN_FILE
    return read_examples(path / EXAMPLES_FILE), read_examples(unseen) if unseen.is_file() else None


def _plan(config: TrainConfig, examples: Examples, parts: Split) -> dict[str, Any]:
    """All that the bits of the result depend on."""
    return {
        "data_fingerprint": examples.fingerprint,
        "schema_sha256": examples.schema.fingerprint,
        "model": config.model,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "lr": config.peak_lr,
        "dropout": config.drop,
        "split": config.split,
        "split_fingerprint": parts.fingerprint,
        "seed": config.seed,
        **({"keep": "last"} if config.keep == "last" else {}),
        "torch": torch.__version__,
    }


def _write_results(
    work: Path,
    model: SkipModel | SeedModel,
    held_out: Examples,
    config: TrainConfig,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything but `run.json`, which it returns, less what is said of the data."""
    schema = held_out.schema
    target = held_out.labels if held_out.expected is None else held_out.expected
    temperatures = fit_temperatures(outputs(model, held_out.features), target, schema)
    tensors = save_weights(work, {WEIGHTS_FILE: model}, {"schema_sha256": schema.fingerprint})
    write_json(work / HISTORY_FILE, {"epochs": history})
    write_json(work / SCHEMA_FILE, schema.to_json())
    losses = [entry["val_loss"] for entry in history]
    panel = Panel("on held-out examples: loss", {"weighted over heads": losses}, (0, 1.1 * max(losses)))
    draw_learning_curve("epoch", [entry["epoch"] for entry in history], [panel], work / CURVE_FILE)
    kept = choose(history, "epoch", config.keep)
    return new_record(TRAINER, config, RECORDED_PACKAGES, kept.entry, tensors) | {
        "kept": kept.record(),
        "schema_name": schema.name,
        "schema_sha256": schema.fingerprint,
        "model": config.model,
        "temperatures": temperatures,
    }


def _source(config: TrainConfig, examples: Examples, parts: Split) -> dict[str, Any]:
    return {
        "data": {
            "source": str(config.data),
            "fingerprint": examples.fingerprint,
            "examples": len(examples),
            "split_fingerprint": parts.fingerprint,
            "labels": "drawn" if examples.expected is None else "expected",
        }
    }
