"""What tokens of questions have to do with tokens of calls, counted in the training data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import ConfigError
from pretrain.lm.chat import Document
from pretrain.lm.tokenizer import Tokenizer

TOPICS: Final = 14
LENGTH: Final = 1.6
"""Of the topics of a token that tells much."""
SEEN_TOGETHER: Final = 3
"""Questions; of less nothing is counted."""
MOST_TOKENS: Final = 8_192
"""Of a vocabulary, whose square is held in memory."""

Topics = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(V, TOPICS) of tokens where somebody asks, and where the model answers."""


def count_topics(documents: Iterable[Document], tokenizer: Tokenizer) -> Topics:
    """Topics of tokens, from questions that were answered by a call.

    By question is counted which tokens of it came with which of the call that were not copied from it. Their
    positive pointwise mutual information is divided (SVD) into as many directions as matter most.

    Raises:
        ConfigError: the vocabulary is too large.
    """
    size = tokenizer.vocab_size
    if size > MOST_TOKENS:
        raise ConfigError(
            f"--prepare needs a tokenizer of at most {MOST_TOKENS:,} tokens, this one has {size:,}"
        )
    together = np.zeros((size, size), np.float32)
    for document in documents:
        for question, answer in pairwise(document.turns):
            if question.role == "user" and answer.role == "call":
                asked = set(tokenizer.encode(question.text))
                answered = set(tokenizer.encode(answer.text)) - asked
                together[np.ix_(sorted(asked), sorted(answered))] += 1
    expected = np.outer(together.sum(1), together.sum(0)) / max(1.0, float(together.sum()))
    counted = together >= SEEN_TOGETHER
    information = np.zeros_like(together)
    information[counted] = np.log(together[counted] / expected[counted]).clip(0)
    rows, columns = np.flatnonzero(information.any(1)), np.flatnonzero(information.any(0))
    left, strengths, right = np.linalg.svd(information[np.ix_(rows, columns)], full_matrices=False)
    kept = min(TOPICS, len(strengths))
    root = np.sqrt(strengths[:kept])
    return (
        _spread(left[:, :kept] * root, rows, size),
        _spread(right[:kept].T * root, columns, size),
    )


def _spread(topics: NDArray[np.float32], tokens: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """(n, up to TOPICS) of some tokens -> (size, TOPICS); nine tenths are no longer than most of a code."""
    made = np.zeros((size, TOPICS), np.float32)
    if len(tokens):
        lengths = np.linalg.norm(topics, axis=1, keepdims=True)
        usual = np.quantile(lengths, 0.9)
        made[tokens, : topics.shape[1]] = LENGTH * topics / usual * np.minimum(1, 1.2 * usual / lengths)
    return made
