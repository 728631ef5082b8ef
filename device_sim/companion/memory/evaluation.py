"""How well a memory finds what is asked for: its search, beside its halves and their plain fusion."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.companion.memory.memory import LEXICAL_WEIGHT, Memory, top
from personality_common.errors import DataError, ToolkitError
from personality_common.files.bounded import read_bounded

K: Final = 5
DEPTH: Final = 100
"""Ranks that count for the reciprocal rank, and that are fused."""
RRF: Final = 60
"""Of reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009."""
MOST_QUESTIONS: Final = 300
_MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class Question:
    """Asked by a user; `turn` has the answer."""

    text: str
    turn: str
    user: str


@dataclass(frozen=True)
class Figures:
    """Of a ranking: share of questions whose turn is among the first five; mean reciprocal rank of it."""

    recall: float
    mrr: float


@dataclass(frozen=True)
class Evaluation:
    """Figures by ranking; `ms` of `Memory.search`, embedding included: median and 95th percentile."""

    questions: int
    figures: dict[str, Figures]
    ms: tuple[float, float]


def evaluate(memory: Memory, questions: Sequence[Question]) -> Evaluation:
    """Rank every question's user's chunks in four ways.

    `dense`: cosine. `lexical`: BM25 over all words. `rrf`: both, by reciprocal ranks. `search`: the memory's.
    """
    if not questions:
        raise ToolkitError("an evaluation must have a question, has none; is the memory empty?")
    ranks: dict[str, list[int | None]] = {name: [] for name in ("dense", "lexical", "rrf", "search")}
    names = {user: memory.chunk_ids(user) for user in {question.user for question in questions}}
    said = {name: {*chunk.turns} for chunk in memory.audit() for name in [chunk.chunk_id]}
    took = []
    for question in questions:
        dense = memory.dense_scores(question.text, question.user)
        every = memory.lexical_scores(question.text, question.user, all_words=True)
        every[np.isneginf(dense) | (every <= 0)] = -np.inf
        rare = memory.lexical_scores(question.text, question.user)
        fused = _reciprocal(dense) + _reciprocal(every)
        fused[fused == 0] = -np.inf
        scores = {"dense": dense, "lexical": every, "rrf": fused, "search": dense + LEXICAL_WEIGHT * rare}
        for name, score in scores.items():
            order = [names[question.user][row] for row in top(score, DEPTH)]
            ranks[name].append(_rank(order, said, question.turn))
        started = time.perf_counter()
        memory.search(question.text, question.user, K)
        took.append(1000 * (time.perf_counter() - started))
    figures = {name: _figures(found) for name, found in ranks.items()}
    return Evaluation(len(questions), figures, (float(np.median(took)), float(np.percentile(took, 95))))


def keyword_questions(memory: Memory, user: str, most: int = MOST_QUESTIONS) -> list[Question]:
    """The three rarest words of chunks, evenly over time: what a search must find at least."""
    known = [chunk for chunk in memory.audit(user) if chunk.why is None]
    words = {
        chunk.chunk_id: dict.fromkeys(re.findall(r"[^\W\d_]{3,}", chunk.text.casefold())) for chunk in known
    }
    counts = Counter(word for own in words.values() for word in own)
    usable = [chunk for chunk in known if len(words[chunk.chunk_id]) >= 3]
    step = max(1, len(usable) // most)
    return [
        Question(
            " ".join(sorted(words[chunk.chunk_id], key=lambda word: (counts[word], word))[:3]),
            chunk.turns[0],
            user,
        )
        for chunk in usable[::step][:most]
    ]


def read_questions(path: Path, user: str) -> list[Question]:
    """Questions from lines of JSON: {"question": "…", "turn": "…"}.

    Raises:
        DataError: a line is something else.
    """
    questions = []
    for number, line in enumerate(read_bounded(path, _MOST_BYTES, "a file of questions").splitlines(), 1):
        try:
            content = json.loads(line)
            text, turn = content["question"], content["turn"]
        except (ValueError, TypeError, KeyError, RecursionError):
            text = turn = None
        if not isinstance(text, str) or not isinstance(turn, str):
            raise DataError(f'{path}:{number}: must be {{"question": "…", "turn": "…"}}, is not')
        questions.append(Question(text, turn, user))
    return questions


def _reciprocal(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) scores -> (N,) 1 / (60 + rank) of the first hundred, 0 beyond."""
    found = np.zeros(len(scores), np.float32)
    order = top(scores, DEPTH)
    found[order] = 1 / (RRF + 1 + np.arange(len(order)))
    return found


def _rank(order: list[str], said: dict[str, set[str]], turn: str) -> int | None:
    return next((rank for rank, chunk in enumerate(order, 1) if turn in said.get(chunk, ())), None)


def _figures(ranks: list[int | None]) -> Figures:
    found = [1 / rank if rank else 0.0 for rank in ranks]
    return Figures(sum(score >= 1 / K for score in found) / len(found), sum(found) / len(found))
