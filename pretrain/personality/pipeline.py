"""`pt pretrain`, from conversations to a run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from personality_common.contract import (
    CACHE_DIR,
    CHECKPOINTS_DIR,
    HISTORY_FILE,
    MODEL_WEIGHTS_FILE,
    PROJECTOR_WEIGHTS_FILE,
    RUN_FILE,
    TOKENS_FILE,
)
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.atomic import folder_lock, read_json_object, write_json
from personality_common.files.tensors import save_tensors, tensor_fingerprints
from personality_common.runs.device import choose_device, fast_dtype, seed_everything
from personality_common.runs.folder import WORK_DIR, finish_publishing
from personality_common.runs.processes import ALONE, Processes
from personality_common.terminal.progress import Reporter
from personality_common.text.encoder import load_encoder, resolve_auto
from personality_common.text.identity import Encoder
from personality_common.vocabulary import Vocabulary, load_vocabulary
from pretrain.data.conversations import ReadSummary
from pretrain.data.corpus import Corpus, read_corpus
from pretrain.data.keys import text_keys
from pretrain.personality.config import PretrainConfig
from pretrain.personality.curve import draw_learning_curve
from pretrain.personality.embedding_cache import EmbeddingCache
from pretrain.personality.run import RUN_SCHEMA
from pretrain.personality.student import Student, start_at_teacher
from pretrain.personality.training import TrainingData, train

PLAN_FILE: Final = "plan.json"
CURVE_FILE: Final = "learning_curve.png"
RECORDED_PACKAGES: Final = ("personality-toolkit", "torch", "numpy", "sentence-transformers")
TEACHER_SAMPLE: Final = 8192
"""Training texts that set the mean log-partition of the start."""


@dataclass(frozen=True)
class PretrainResult:
    """What a run ended with.

    Attributes:
        run: its folder.
        history: as in `training_history.json`.
        summary: what was read.
        embedded: texts that the cache did not hold before, the vocabulary's tokens included.
    """

    run: Path
    history: list[dict[str, Any]]
    summary: ReadSummary
    embedded: int


def pretrain(config: PretrainConfig, reporter: Reporter, processes: Processes = ALONE) -> PretrainResult:
    """Read, embed, train, and publish a run; see `personality_common.runs.folder` for what a kill leaves.

    Several processes share the folder: each reads and embeds its share of the texts, all train together, and
    the leader alone writes what is not embeddings. What they end with is the same for each.

    Raises:
        DataError: the data or the vocabulary is malformed (nothing was done yet).
        MismatchError: `resume` with other settings than the unfinished run's.
        ToolkitError: another job works in the folder, an unfinished run is in the way, or another process
            failed.
        OSError: a file cannot be written; what was finished is kept.
    """
    run = config.output_dir
    vocabulary = load_vocabulary(config.tokens)
    device = choose_device(config.device)
    with contextlib.ExitStack() as stack:
        processes.share(lambda: _take_folder(run, config, stack) if processes.leads else None)
        corpus = stack.enter_context(read_corpus(config.data, config.val_fraction, run, processes))
        _say_what_was_read(corpus.summary, config, reporter)
        _require_both_sides(corpus, config)
        encoder = _open_encoder(config, device, reporter)
        plan = _plan(config, device, vocabulary, encoder, corpus.fingerprint)
        processes.require_same(json.dumps(plan), "settings, data, encoder and versions")
        finished = processes.share(lambda: _take_up(run, config, plan) if processes.leads else None)
        if any(processes.gather_text("finished" if finished is not None else "")):
            reporter.say(f"{run}: this run is finished already; nothing to do")
            return PretrainResult(run, finished or [], corpus.summary, embedded=0)

        data, embedded = _embed(corpus, vocabulary, run, encoder, reporter, processes)
        seed_everything(config.seed)
        student = Student(encoder.identity.dim, config.dropout)
        if config.start == "teacher":
            sample = data.batch(data.train_rows[:TEACHER_SAMPLE], "cpu")
            start_at_teacher(student, data.token_embedding, sample)
        work = run / WORK_DIR
        history = train(student, data, config, device, work / CHECKPOINTS_DIR, reporter, processes)
        if processes.leads:
            _write_results(work, student, vocabulary, history)
            record = _record(plan, student, vocabulary, encoder, config, corpus.summary, data, history)
            write_json(work / RUN_FILE, record | {"processes": processes.size})
            # Only now: without its plan an unfinished run cannot be resumed, and would start again.
            (work / PLAN_FILE).unlink()
            finish_publishing(run)
    return PretrainResult(run, history, corpus.summary, embedded)


def _take_folder(run: Path, config: PretrainConfig, stack: contextlib.ExitStack) -> None:
    stack.enter_context(folder_lock(run))
    finish_publishing(run)
    _require_clear(run, config)


def _embed(
    corpus: Corpus,
    vocabulary: Vocabulary,
    run: Path,
    encoder: Encoder,
    reporter: Reporter,
    processes: Processes,
) -> tuple[TrainingData, int]:
    """Embed what the cache does not have, each process its own texts; returns how many, of all processes."""
    cache = EmbeddingCache(run / CACHE_DIR, encoder, reporter, processes)
    # A token may be a text of the corpus, too, and whosever it is, the leader embeds the tokens.
    missing = cache.missing(corpus.own_keys) & ~np.isin(corpus.own_keys, text_keys(vocabulary.tokens))

    def embed() -> int:
        tokens = cache.add(vocabulary.tokens) if processes.leads else 0
        cache.embed(corpus.own_texts(missing), int(missing.sum()))
        return tokens + int(missing.sum())

    embedded = processes.share(embed)
    # The others have written theirs, since all have come this far.
    cache.refresh()
    embedded = int(processes.sum(torch.tensor(embedded)))
    reporter.say(f"embedded {embedded} texts; {len(cache)} in the cache")
    data = TrainingData(
        fetch=cache.embeddings,
        train_rows=cache.rows(corpus.keys[~corpus.held_out]),
        val_rows=cache.rows(corpus.keys[corpus.held_out]),
        token_embedding=torch.from_numpy(cache.embeddings(cache.rows(text_keys(vocabulary.tokens)))),
    )
    return data, embedded


def _require_clear(run: Path, config: PretrainConfig) -> None:
    """An unfinished run that has finished epochs is neither overwritten nor taken up unasked."""
    checkpoints = list((run / WORK_DIR / CHECKPOINTS_DIR).glob("epoch_*"))
    if checkpoints and not config.resume:
        raise ToolkitError(
            f"{run}: holds an unfinished run with checkpoints; add --resume to go on, "
            f"or remove {run / WORK_DIR} to start again"
        )


def _say_what_was_read(summary: ReadSummary, config: PretrainConfig, reporter: Reporter) -> None:
    reporter.say(
        f"read {summary.records} records: {summary.texts} distinct texts, {summary.repeats} repeats, "
        f"{summary.blank_texts} blank"
    )
    if summary.bad_records:
        reporter.warn(f"skipped {summary.bad_records} malformed records, first: {summary.bad_positions[0]}")
    if summary.texts == config.data.max_samples:
        reporter.say(f"stopped reading at --max-samples {config.data.max_samples}")


def _require_both_sides(corpus: Corpus, config: PretrainConfig) -> None:
    held_out = int(corpus.held_out.sum())
    if held_out in (0, len(corpus.keys)):
        raise DataError(
            f"{config.data.source}: needs texts on both sides of --val-fraction {config.val_fraction}, "
            f"gives {len(corpus.keys) - held_out} for training and {held_out} for validation; "
            "use more data or another fraction"
        )


def _open_encoder(config: PretrainConfig, device: str, reporter: Reporter) -> Encoder:
    name = resolve_auto(config.encoder)
    if name != config.encoder:
        reporter.say(f"encoder: auto chose {name}")
    encoder = load_encoder(name, device, fast_dtype(device))
    if name == "openai":
        reporter.warn(f"every text leaves this machine: it is sent to {encoder.source}")
    reporter.say(
        f"encoder: {encoder.identity.name} from {encoder.source}, {encoder.identity.dim} dimensions, "
        f"computing in {encoder.compute_dtype}"
    )
    return encoder


def _plan(
    config: PretrainConfig, device: str, vocabulary: Vocabulary, encoder: Encoder, data: str
) -> dict[str, Any]:
    """All that the bits of the result depend on; a run is resumed only with the same."""
    return {
        "data_fingerprint": data,
        "vocabulary_fingerprint": vocabulary.fingerprint,
        "encoder_fingerprint": encoder.identity.fingerprint,
        "encoder_compute_dtype": encoder.compute_dtype,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "lr": config.first_lr,
        "dropout": config.dropout,
        "val_fraction": config.val_fraction,
        "seed": config.seed,
        "start": config.start,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _take_up(run: Path, config: PretrainConfig, plan: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Make the work folder ready; returns the history where `resume` finds the run finished.

    Raises:
        MismatchError: `resume` with another plan.
    """
    work = run / WORK_DIR
    if config.resume and (work / PLAN_FILE).exists():
        _require_same_plan(read_json_object(work / PLAN_FILE), plan, work)
        return None
    if config.resume and (run / RUN_FILE).exists():
        _require_same_plan(read_json_object(run / RUN_FILE).get("plan", {}), plan, run)
        history: list[dict[str, Any]] = read_json_object(run / HISTORY_FILE)["epochs"]
        return history
    shutil.rmtree(work, ignore_errors=True)
    write_json(work / PLAN_FILE, plan)
    return None


def _require_same_plan(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: Path) -> None:
    differing = [
        f"{key} is {theirs.get(key)!r} there, {value!r} here"
        for key, value in ours.items()
        if theirs.get(key) != value
    ]
    if differing:
        raise MismatchError(
            f"{where}: --resume needs the same settings, data and machine: {'; '.join(differing)}"
        )


def _deployed(student: Student) -> dict[str, torch.nn.Module]:
    modules: dict[str, torch.nn.Module] = {MODEL_WEIGHTS_FILE: student.model}
    if student.projector is not None:
        modules[PROJECTOR_WEIGHTS_FILE] = student.projector
    return modules


def _write_results(
    work: Path, student: Student, vocabulary: Vocabulary, history: list[dict[str, Any]]
) -> None:
    for name, module in _deployed(student).items():
        save_tensors(work / name, module.state_dict(), {"vocabulary_fingerprint": vocabulary.fingerprint})
    write_json(work / TOKENS_FILE, {"tokens": list(vocabulary.tokens)})
    write_json(work / HISTORY_FILE, {"epochs": history})
    draw_learning_curve(history, work / CURVE_FILE)


def _record(
    plan: Mapping[str, Any],
    student: Student,
    vocabulary: Vocabulary,
    encoder: Encoder,
    config: PretrainConfig,
    summary: ReadSummary,
    data: TrainingData,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    tensors = {
        name: {
            key: {
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "fingerprint": tensor_fingerprints({key: tensor})[key],
            }
            for key, tensor in module.state_dict().items()
        }
        for name, module in _deployed(student).items()
    }
    return {
        "schema": RUN_SCHEMA,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config)
        | {"output_dir": str(config.output_dir), "tokens": config.tokens and str(config.tokens)},
        "plan": dict(plan),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in RECORDED_PACKAGES},
        },
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "data": {
            "source": config.data.source,
            "fingerprint": plan["data_fingerprint"],
            "train_texts": len(data.train_rows),
            "val_texts": len(data.val_rows),
            "records": summary.records,
            "bad_records": summary.bad_records,
            "bad_positions": summary.bad_positions,
            "blank_texts": summary.blank_texts,
            "repeats": summary.repeats,
        },
        "vocabulary": {"fingerprint": vocabulary.fingerprint, "size": len(vocabulary.tokens)},
        "encoder": {
            "option": resolve_auto(config.encoder),
            "identity": asdict(encoder.identity),
            "fingerprint": encoder.identity.fingerprint,
            "source": encoder.source,
            "compute_dtype": encoder.compute_dtype,
        },
        "quality": history[-1],
        "tensors": tensors,
    }
