"""What the runtimes are compared on: golden vectors, texts, batches of every size, and hostile values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from personality_common.bundle.bundle import Bundle
from personality_common.bundle.stored import Array
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    EMBEDDING_DIM,
    INPUT_IDS,
    LATENT,
    LATENT_DIM,
    LOGITS,
    MAX_BATCH,
    SENTENCE_EMBEDDING,
)
from personality_common.evidence.distances import top_indices
from personality_common.text.sentence import SentenceEncoder
from pretrain.personality.run import Run

BATCHES: Final = (1, 2, 63, 64)
SEED: Final = 0
LARGE_NORM: Final = 1e3
"""Of a hostile embedding, whose norm should be 1; its products still fit float16."""
DENORMAL: Final = 1e-40
PAD: Final = 16
"""Masked positions that are added to a text."""


@dataclass(frozen=True)
class Suite:
    """A set of inputs.

    Attributes:
        name: for people.
        calls: one call of `predict` each, or several where a package takes one row at a time.
        golden: outputs that PyTorch gave at export, by feature.
        texts: of each row, where the rows are texts.
        hostile: magnitudes are extreme, so that differences are taken relative to them.
    """

    name: str
    calls: tuple[dict[str, Array], ...]
    golden: dict[str, Array] = field(default_factory=dict)
    texts: tuple[str, ...] | None = None
    hostile: bool = False

    @property
    def id(self) -> str:
        """For machines."""
        return self.name.lower().replace(": ", "-").replace(" ", "-")

    @property
    def ranked(self) -> bool:
        """Whether its rows are real, so that it matters which tokens come first."""
        return self.name in ("golden", "texts")


@dataclass(frozen=True)
class Texts:
    """Texts of a user's file, encoded with the run's encoder; `top` (N, 8) are the run's outputs for them."""

    texts: tuple[str, ...]
    token_ids: list[list[int]] | None
    embeddings: Array
    latents: Array
    top: Array


@torch.inference_mode()
def encode_texts(texts: Sequence[str], run: Run, encoder: SentenceEncoder) -> Texts:
    """(N,) texts -> token ids, (N, 1536) embeddings, (N, 512) latents, (N, 8) top; PyTorch, float32."""
    embeddings = torch.from_numpy(encoder.encode(texts))
    embeddings = embeddings if run.projector is None else run.projector(embeddings)
    latents = run.model.backbone(embeddings)
    ids = encoder.token_ids(texts)
    top = top_indices(run.model.head(latents).numpy())
    return Texts(tuple(texts), ids, embeddings.numpy(), latents.numpy(), top)


def personality_suites(bundle: Bundle, feature: str, texts: Texts | None, flexible: bool) -> Iterator[Suite]:
    """Inputs of a package of the personality model.

    Args:
        feature: `embedding` or `latent`, which the package takes.
        flexible: whether it takes several rows at a time.
    """
    golden = bundle.golden.arrays
    arrays = {EMBEDDING: golden["embeddings"], LATENT: golden["latents"]}
    wanted = {LATENT: arrays[LATENT], LOGITS: golden["logits"]}
    yield Suite("golden", ({feature: arrays[feature]},), wanted, bundle.golden.record.texts)
    if texts is not None:
        values = {EMBEDDING: texts.embeddings, LATENT: texts.latents}[feature]
        yield Suite("texts", ({feature: values},), texts=texts.texts)
    rows = _unit_rows(MAX_BATCH, {EMBEDDING: EMBEDDING_DIM, LATENT: LATENT_DIM}[feature])
    for size in BATCHES if flexible else (1,):
        yield Suite(f"batch {size}", ({feature: rows[:size]},))
    yield from (Suite(f"hostile: {n}", ({feature: a},), hostile=True) for n, a in hostile_rows(rows[:4]))


def hostile_rows(rows: Array) -> Iterator[tuple[str, Array]]:
    """Values that an app should never send, and may; made from (4, D) unit rows."""
    yield "zeros", np.zeros_like(rows)
    one_hot = np.zeros_like(rows)
    one_hot[np.arange(4), [0, 1, rows.shape[1] // 2, rows.shape[1] - 1]] = [1, -1, 1, 1]
    yield "one-hot", one_hot
    yield "denormals", (np.sign(rows) * np.float32(DENORMAL)).astype(np.float32)
    yield "large norm", (rows * np.float32(LARGE_NORM)).astype(np.float32)
    for name, value in (("NaN", np.nan), ("infinity", np.inf), ("-infinity", -np.inf)):
        spoilt = rows.copy()
        spoilt[0, 0] = spoilt[2, -1] = value  # the other rows must stay as they are
        yield name, spoilt


def encoder_suites(bundle: Bundle, texts: Texts | None) -> Iterator[Suite]:
    """Inputs of the text encoder: (1, T) token ids and mask, one text a call."""
    golden, ids = bundle.golden.arrays, bundle.golden.record.token_ids
    if ids is not None:
        wanted = {SENTENCE_EMBEDDING: golden["base_embeddings"], EMBEDDING: golden["embeddings"]}
        texts_of = bundle.golden.record.texts
        yield Suite("golden", _calls(ids), wanted, texts_of)
        yield Suite("padded", _calls(ids, PAD), wanted, texts_of)
    if texts is not None and texts.token_ids:
        yield Suite("texts", _calls(texts.token_ids), texts=texts.texts)
    draw = np.random.default_rng(SEED).integers(1000, 30000, 254).tolist()
    yield Suite("lengths 2 and 256", _calls([[101, 102], [101, *draw, 102]]))


def _calls(token_ids: Sequence[Sequence[int]], pad: int = 0) -> tuple[dict[str, Array], ...]:
    calls = []
    for ids in token_ids:
        padding = [0] * min(pad, 256 - len(ids))
        mask = [1] * len(ids) + padding
        rows = {INPUT_IDS: [[*ids, *padding]], ATTENTION_MASK: [mask]}
        calls.append({name: np.array(row, np.int32) for name, row in rows.items()})
    return tuple(calls)


def _unit_rows(count: int, dim: int) -> Array:
    draw = np.random.default_rng(SEED).standard_normal((count, dim))
    rows: Array = (draw / np.linalg.norm(draw, axis=1, keepdims=True)).astype(np.float32)
    return rows
