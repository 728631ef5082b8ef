"""What a run's tokens are worth: its ranking against labels that people gave, beside baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch

from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object
from personality_common.printable import described
from personality_common.runs.processes import ALONE
from personality_common.terminal.progress import SILENT, Reporter
from personality_common.vocabulary import Vocabulary
from pretrain.data.corpus import read_corpus
from pretrain.personality.config import EvaluateConfig, as_put
from pretrain.personality.label_metrics import Confusion, Measured, confused_pairs, measure
from pretrain.personality.run import Run, load_run_encoder
from pretrain.personality.targets import soft_targets

ENCODED_AT_ONCE: Final = 256
MIN_LABELLED: Final = 2
"""Texts: a token's AUC needs one that has it and one that has not."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a run and of its baselines on one set of labelled texts.

    Attributes:
        run, vocabulary: fingerprints.
        data: SHA-256 over the labelled texts' keys and labels.
        texts: how many are labelled; `unlabelled` were left out.
        tokens: that are labels of any text.
        measured: of the `model`, and of `teacher`, `prior` (how often each label comes, the same for every
            text) and `chance` (random numbers).
        confusions: the most confused pairs of the model.
        token_template: how the teacher was given its tokens.
    """

    run: str
    vocabulary: str
    data: str
    texts: int
    unlabelled: int
    tokens: tuple[str, ...]
    measured: Mapping[str, Measured]
    confusions: tuple[Confusion, ...]
    token_template: str


def read_map(path: Path | None, vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Name of a label -> positions of its tokens; without a file, every token is its own label.

    Raises:
        DataError: no JSON object of tokens or lists of tokens, or a token is not the vocabulary's.
    """
    if path is None:
        return {token: (i,) for i, token in enumerate(vocabulary.tokens)}
    known = {}
    for label, given in read_json_object(path).items():
        tokens = [given] if isinstance(given, str) else given
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError(
                f"{path}: {described(label)} must be a token or a list of tokens, is {described(given)}"
            )
        try:
            known[label] = tuple(vocabulary.index(token) for token in tokens)
        except DataError as error:
            raise DataError(f"{path}: {described(label)}: {error}") from None
    return known


@torch.inference_mode()
def evaluate(run: Run, config: EvaluateConfig, reporter: Reporter = SILENT) -> Evaluation:
    """Rank the tokens for every labelled text, in float32, with the run's own encoder.

    Args:
        run: see `pretrain.personality.run.load_run`.

    Raises:
        DataError: as `read_map` and `read_corpus`; or fewer than two texts have labels, or all the same.
        ToolkitError: the encoder cannot be loaded.
        MismatchError: the encoder that is here is not the run's.
    """
    known = read_map(config.map, run.vocabulary)
    with TemporaryDirectory() as spool, read_corpus(config.data, 0.5, Path(spool), ALONE, known) as corpus:
        rows, at = np.unique(corpus.labels[:, 0], return_inverse=True)
        chosen = np.zeros(len(corpus.keys), np.bool_)
        chosen[rows] = True
        texts = list(corpus.own_texts(chosen))
        unlabelled = len(corpus.keys) - len(rows)
        fingerprint = corpus.labels_fingerprint
    if len(rows) < MIN_LABELLED:
        raise DataError(
            f"{config.data.name}: must have {MIN_LABELLED} or more texts with `tokens`, has {len(rows)}"
        )
    truth = np.zeros((len(rows), len(run.vocabulary.tokens)), np.bool_)
    truth[at, corpus.labels[:, 1]] = True
    if truth.any(axis=0).sum() < 2:
        raise DataError(f"{config.data.name}: must have 2 or more labels, has 1")

    encoder = load_run_encoder(run, "cpu", torch.float32, reporter, config.allow_remote_encoder)
    tokens = torch.from_numpy(encoder.encode(as_put(run.vocabulary.tokens, run.token_template)))
    model, teacher = [], []
    with reporter.stage("embedding", len(texts), "texts") as stage:
        for start in range(0, len(texts), ENCODED_AT_ONCE):
            part = texts[start : start + ENCODED_AT_ONCE]
            base = torch.from_numpy(encoder.encode(part))
            embedding = base if run.projector is None else run.projector(base)
            model.append(torch.sigmoid(run.model(embedding)).numpy())
            teacher.append(soft_targets(base, tokens).numpy())
            stage.advance(len(part))
    scores = {
        "model": np.concatenate(model),
        "teacher": np.concatenate(teacher),
        "prior": np.broadcast_to(truth.mean(axis=0, dtype=np.float32), truth.shape),
        "chance": np.random.default_rng(config.seed).random(truth.shape, np.float32),
    }
    return Evaluation(
        run=run.fingerprint,
        vocabulary=run.vocabulary.fingerprint,
        data=fingerprint,
        texts=len(texts),
        unlabelled=unlabelled,
        tokens=tuple(run.vocabulary.tokens[i] for i in np.flatnonzero(truth.any(axis=0))),
        measured={name: measure(truth, score) for name, score in scores.items()},
        confusions=confused_pairs(truth, scores["model"], run.vocabulary.tokens),
        token_template=run.token_template,
    )
