"""`pt pretrain`, from conversations to a run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    TOKENS_FILE,
)
from personality_common.errors import DataError
from personality_common.files.atomic import atomic_writer, read_json_object, write_json
from personality_common.runs.curve import Panel, draw_learning_curve
from personality_common.runs.device import choose_device, fast_dtype, seed_everything
from personality_common.runs.folder import WORK_DIR, hold_run, publish, take_up
from personality_common.runs.keeping import choose
from personality_common.runs.processes import ALONE, Processes
from personality_common.runs.record import Record, new_record, save_weights
from personality_common.runs.tracking import require_tracker, tracking
from personality_common.terminal.progress import SILENT, Reporter
from personality_common.text.consent import remember_run, tell
from personality_common.text.encoder import load_encoder, require_encoder, resolve_auto
from personality_common.text.identity import Encoder
from personality_common.text.sentence import SentenceEncoder
from personality_common.vocabulary import Vocabulary, load_vocabulary
from pretrain.data.conversations import ReadSummary
from pretrain.data.corpus import Corpus, read_corpus
from pretrain.data.keys import text_keys
from pretrain.data.spread import Spread
from pretrain.personality.config import PLAIN_TEMPLATE, PretrainConfig, as_put
from pretrain.personality.embedding_cache import EmbeddingCache
from pretrain.personality.label_start import start_at_labels
from pretrain.personality.labels import LabelMix
from pretrain.personality.model_card import MODEL_CARD, run_card
from pretrain.personality.reference import sampled, save_sample
from pretrain.personality.run import TRAINER
from pretrain.personality.student import Student, start_at_teacher
from pretrain.personality.training import TrainingData, train

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


def pretrain(
    config: PretrainConfig, reporter: Reporter = SILENT, processes: Processes = ALONE
) -> PretrainResult:
    """Read, embed, train, and publish a run; see `personality_common.runs.folder` for what a kill leaves.

    Several processes share the folder: each reads and embeds its share of the texts, all train together, and
    the leader alone writes what is not embeddings. What they end with is the same for each.

    Raises:
        ConfigError: there is no such encoder, or no such data.
        DataError: the data or the vocabulary is malformed (nothing was done yet).
        MismatchError: `resume` with other settings than the unfinished run's.
        ToolkitError: another job works in the folder, an unfinished run is in the way, or another process
            failed.
        OSError: a file cannot be written; what was finished is kept.
    """
    run = config.output_dir
    require_encoder(config.encoder)
    require_tracker(config.track)
    vocabulary = load_vocabulary(config.tokens)
    device = choose_device(config.device)
    with contextlib.ExitStack() as stack:

        def hold() -> None:
            if processes.leads:
                stack.enter_context(hold_run(run, config.resume, config.overwrite))

        processes.share(hold)
        track = stack.enter_context(tracking(config.track if processes.leads else None, run, "epoch"))
        known = {token: (i,) for i, token in enumerate(vocabulary.tokens)} if config.label_weight else None
        reading = stack.enter_context(contextlib.ExitStack())
        corpus = reading.enter_context(read_corpus(config.data, config.val_fraction, run, processes, known))
        _say_what_was_read(corpus.summary, config, reporter)
        _require_both_sides(corpus, config, processes)
        encoder = _open_encoder(config, device, reporter)

        plan = _plan(config, device, vocabulary, encoder, corpus, processes)
        processes.require_same(json.dumps(plan), "settings, data, encoder and versions")
        finished = processes.share(
            lambda: processes.leads and take_up(run, plan, config.resume, reporter, "epochs")
        )
        if any(processes.gather_text("finished" if finished else "")):
            reporter.say(f"{run}: this run is finished already; nothing to do")
            history = read_json_object(run / HISTORY_FILE)["epochs"]
            track(history)
            return PretrainResult(run, history, corpus.summary, embedded=0)

        data, embedded, cached = _embed(corpus, vocabulary, config, encoder, reporter, processes)
        about = _about(corpus, data, cached, config)
        # From here on texts are rows of the cache.
        summary = corpus.summary
        reading.close()
        del corpus
        seed_everything(config.seed)
        student = Student(encoder.identity.dim, config.dropout)
        if config.start == "teacher":
            sample = data.batch(data.train_rows.first(TEACHER_SAMPLE), "cpu")
            start_at_teacher(student, data.token_embedding, sample)
            if data.labels:
                _start_at_labels(student, data, data.labels, processes)
        work = run / WORK_DIR
        history = train(student, data, config, device, work / CHECKPOINTS_DIR, reporter, processes, track)
        drawn = sampled(len(data.train_rows) if processes.leads else 0, config.seed)
        reference = data.train_rows.take(drawn)
        if processes.leads:
            record = _write_results(work, student, vocabulary, config, history)
            save_sample(work, data.batch(reference, "cpu"))
            record |= {"data": about} | _sources(vocabulary, encoder, config)
            fingerprint = _write_card(work, record, vocabulary, encoder, config)
            publish(run, record)
            remember_run(fingerprint)
    return PretrainResult(run, history, summary, embedded)


def _embed(
    corpus: Corpus,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    encoder: Encoder,
    reporter: Reporter,
    processes: Processes,
) -> tuple[TrainingData, int, str]:
    """Embed what the cache does not have, each process its own texts; returns how many, of all processes, and
    the cache's fingerprint."""
    cache = EmbeddingCache(config.cache_dir or config.output_dir / CACHE_DIR, encoder, reporter, processes)
    put = as_put(vocabulary.tokens, config.token_template)
    # First, since a token may be a text of the corpus, too.
    tokens = cache.add(put)
    missing = cache.missing(corpus.own_keys)
    own = int(missing.sum())
    processes.share(lambda: cache.embed(corpus.own_texts(missing), own))
    # The others have written theirs, since all have come this far.
    cache.refresh()
    embedded = tokens + int(processes.sum(torch.tensor(own)))
    reporter.say(f"embedded {embedded} texts; {len(cache)} in the cache")
    rows, held_out = cache.rows(corpus.keys.own), corpus.held_out.own
    labelled = corpus.labels[:, 0] - corpus.keys.start
    unlabelled = np.ones(len(rows), np.bool_)
    unlabelled[labelled[(labelled >= 0) & (labelled < len(rows))]] = False
    # What the teacher is kept for are texts without labels, where there are any.
    measured = Spread(rows[held_out & unlabelled], processes)
    data = TrainingData(
        fetch=cache.embeddings,
        train_rows=Spread(rows[~held_out], processes),
        val_rows=measured if len(measured) else Spread(rows[held_out], processes),
        token_embedding=torch.from_numpy(cache.embeddings(cache.rows(text_keys(put)))),
        labels=_label_mix(corpus, Spread(rows, processes), config.label_weight),
    )
    return data, embedded, cache.fingerprint


def _label_mix(corpus: Corpus, rows: Spread[np.int64], weight: float) -> LabelMix | None:
    """Labels of the training texts; None where there are none."""
    texts, tokens = corpus.labels[~corpus.held_out.take(corpus.labels[:, 0])].T
    if not len(texts):
        return None
    pairs = np.stack([rows.take(texts), tokens], axis=1)
    return LabelMix(weight, pairs[np.lexsort(pairs.T[::-1])])


def _start_at_labels(student: Student, data: TrainingData, labels: LabelMix, processes: Processes) -> None:
    """From a sample of the training texts, as many with labels as without at most."""
    held = data.train_rows.own
    other = Spread(held[~np.isin(held, labels.rows)], processes).first(TEACHER_SAMPLE)
    own = labels.rows[np.linspace(0, len(labels.rows) - 1, min(TEACHER_SAMPLE, len(labels.rows))).astype(int)]
    spoken = labels.spoken.nonzero()[:, 0]
    shares = labels.shares(own)[:, spoken]
    start_at_labels(student, data.batch(own, "cpu"), shares, labels.weight, data.batch(other, "cpu"), spoken)


def _say_what_was_read(summary: ReadSummary, config: PretrainConfig, reporter: Reporter) -> None:
    reporter.say(
        f"read {summary.records} records: {summary.texts} distinct texts, {summary.repeats} repeats, "
        f"{summary.blank_texts} blank"
    )
    if summary.bad_records:
        reporter.warn(f"skipped {summary.bad_records} malformed records, first: {summary.bad_positions[0]}")
    if summary.texts == config.data.max_samples:
        reporter.say(f"stopped reading at --max-samples {config.data.max_samples}")


def _require_both_sides(corpus: Corpus, config: PretrainConfig, processes: Processes) -> None:
    held_out = int(processes.sum(torch.tensor(int(corpus.held_out.own.sum()))))
    if held_out in (0, len(corpus.keys)):
        raise DataError(
            f"{config.data.name}: needs texts on both sides of --val-fraction {config.val_fraction}, "
            f"gives {len(corpus.keys) - held_out} for training and {held_out} for validation; "
            "use more data or another fraction"
        )


def _open_encoder(config: PretrainConfig, device: str, reporter: Reporter) -> Encoder:
    name = resolve_auto(config.encoder)
    if name != config.encoder:
        reporter.say(f"encoder: auto chose {name}")
    encoder = load_encoder(name, device, fast_dtype(device))
    tell(encoder, reporter)
    reporter.say(
        f"encoder: {encoder.identity.name} from {encoder.source}, {encoder.identity.dim} dimensions, "
        f"computing in {encoder.compute_dtype}"
    )
    return encoder


def _plan(
    config: PretrainConfig,
    device: str,
    vocabulary: Vocabulary,
    encoder: Encoder,
    corpus: Corpus,
    processes: Processes,
) -> dict[str, Any]:
    """All that the bits of the result depend on; see `personality_common.runs.folder` for what may differ."""
    # Only where they are used: a run that began before there were any goes on.
    own: dict[str, Any] = {}
    if config.label_weight:
        own |= {"label_weight": config.label_weight, "labels_fingerprint": corpus.labels_fingerprint}
    if config.local_steps > 1 and processes.size > 1:
        own["local_steps"] = config.local_steps
    if config.keep == "last":
        own["keep"] = config.keep
    if config.token_template != PLAIN_TEMPLATE:
        own["token_template"] = config.token_template
    return own | {
        "data_fingerprint": corpus.fingerprint,
        "vocabulary_fingerprint": vocabulary.fingerprint,
        "encoder_fingerprint": encoder.identity.fingerprint,
        # Not only rounding: it decides which embeddings of the cache are used.
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
        "processes": processes.size,
        "torch": torch.__version__,
    }


def _write_results(
    work: Path,
    student: Student,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything but `run.json`, of which it returns what every run has."""
    modules: dict[str, torch.nn.Module] = {MODEL_WEIGHTS_FILE: student.model}
    if student.projector is not None:
        modules[PROJECTOR_WEIGHTS_FILE] = student.projector
    tensors = save_weights(work, modules, {"vocabulary_fingerprint": vocabulary.fingerprint})
    write_json(work / TOKENS_FILE, {"tokens": list(vocabulary.tokens)})
    write_json(work / HISTORY_FILE, {"epochs": history})
    epochs = [entry["epoch"] for entry in history]
    draw_learning_curve("epoch", epochs, _panels(history), work / CURVE_FILE)
    kept = choose(history, "epoch", config.keep)
    return new_record(TRAINER, config, RECORDED_PACKAGES, kept.entry, tensors) | {"kept": kept.record()}


def _write_card(
    work: Path, content: dict[str, Any], vocabulary: Vocabulary, encoder: Encoder, config: PretrainConfig
) -> str:
    """The model card, from what `run.json` will say; returns the run's fingerprint."""
    tensors = {
        file: {name: entry["fingerprint"] for name, entry in entries.items()}
        for file, entries in content["tensors"].items()
    }
    made = Record(work, content["finished"], tensors, content)
    fingerprint = made.fingerprint(vocabulary.fingerprint, encoder.identity.fingerprint)
    folder = encoder.folder if isinstance(encoder, SentenceEncoder) else None
    card = run_card(content, fingerprint, vocabulary.fingerprint, encoder.identity, folder, config)
    with atomic_writer(work / MODEL_CARD) as file:
        file.write(card.encode())
    return fingerprint


def _panels(history: Sequence[dict[str, Any]]) -> list[Panel]:
    gaps = [entry["val_loss"] - entry["val_loss_floor"] for entry in history]
    labels = {"top-5 recall": "val_top5_recall", "top-8 recall": "val_top8_recall", "NDCG@8": "val_ndcg8"}
    ranking = {label: [entry[key] for entry in history] for label, key in labels.items()}
    lowest = min(min(figures) for figures in ranking.values())
    return [
        Panel("on held-out texts: validation BCE", {"above its floor": gaps}, (0, 1.1 * max(gaps))),
        # A change in the third decimal should not look like a cliff.
        Panel("on held-out texts: ranking", ranking, (min(0.9, lowest - 0.05), 1.005)),
    ]


def _about(corpus: Corpus, data: TrainingData, cached: str, config: PretrainConfig) -> dict[str, Any]:
    """What `run.json` says of the data."""
    return {
        "source": config.data.name,
        "fingerprint": corpus.fingerprint,
        "cache_fingerprint": cached,
        "train_texts": len(data.train_rows),
        "val_texts": len(data.val_rows),
        "records": corpus.summary.records,
        "bad_records": corpus.summary.bad_records,
        "bad_positions": corpus.summary.bad_positions,
        "blank_texts": corpus.summary.blank_texts,
        "repeats": corpus.summary.repeats,
        "labelled_texts": len(np.unique(corpus.labels[:, 0])),
    }


def _sources(vocabulary: Vocabulary, encoder: Encoder, config: PretrainConfig) -> dict[str, Any]:
    """What else `run.json` says of this trainer's runs alone."""
    return {
        "teacher": {"token_template": config.token_template},
        "vocabulary": {"fingerprint": vocabulary.fingerprint, "size": len(vocabulary.tokens)},
        "encoder": {
            "option": resolve_auto(config.encoder),
            "identity": asdict(encoder.identity),
            "fingerprint": encoder.identity.fingerprint,
            "source": encoder.source,
            "compute_dtype": encoder.compute_dtype,
        },
    }
