"""Texts as the model sees them: chosen, embedded with the run's encoder, and taken through the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_sim.mil import load_mil
from device_sim.runtimes.base import LoadedModel
from device_sim.simulate.bundle import VerifiedBundle
from device_sim.simulate.config import HELD_OUT_FRACTION, HELD_OUT_TEXTS
from device_sim.simulate.runtime import evaluate
from grpo.feedback import Interaction
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    EMBEDDING_DIM,
    INPUT_IDS,
    LATENT_DIM,
    SENTENCE_EMBEDDING,
    WORDPIECE_FILE,
)
from personality_common.encoder import load_encoder, require_same_encoder
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.progress import Reporter
from personality_common.run import load_run, load_run_encoder
from pretrain.conversations import DataConfig, read_texts
from pretrain.export.wordpiece import WordPiece
from pretrain.split import is_validation

CHUNK: Final = 256
"""Texts embedded between two signs of life."""
MAX_TEXTS: Final = 100_000
"""Texts read from the data at most; of these the seed chooses."""

ENCODER: Final = "encoder"
"""The bundle's part that turns token ids into base embedding and embedding."""

Array = NDArray[np.float32]
Encode = Callable[[Sequence[str]], tuple[Array, Array]]


@dataclass(frozen=True)
class Chosen:
    """Texts to train on and texts that are only measured on."""

    training: tuple[str, ...] = field(repr=False)
    held_out: tuple[str, ...] = field(repr=False)


def choose_texts(source: str, needed: int, seed: int) -> Chosen:
    """Choose texts from conversations.

    A text is held out by its own hash (`pretrain.split`), so no night ever trains on it, whatever the seed.

    Args:
        source: as for `pt pretrain --data`.
        needed: training texts.
        seed: which ones.

    Raises:
        DataError: the source is malformed, or has too few texts.
    """
    texts, _ = read_texts(DataConfig(source, max_samples=MAX_TEXTS))
    held_out = [text for text in texts if is_validation(text, HELD_OUT_FRACTION)]
    training = [text for text in texts if not is_validation(text, HELD_OUT_FRACTION)]
    if len(training) < needed or len(held_out) < 2:
        raise DataError(
            f"{source}: must have {needed} distinct texts to train on (nights * interactions) and 2 held out"
            f" ({HELD_OUT_FRACTION:.0%} are), has {len(training)} and {len(held_out)}; lower --nights or"
            " --interactions, or give more data"
        )
    generator = torch.Generator().manual_seed(seed)

    def some(of: Sequence[str], count: int) -> tuple[str, ...]:
        return tuple(of[i] for i in torch.randperm(len(of), generator=generator)[:count].tolist())

    return Chosen(some(training, needed), some(held_out, HELD_OUT_TEXTS))


class Embedder:
    """Texts -> base embeddings and embeddings, as an app with this bundle computes them.

    By the bundle's own text encoder, interpreted; or, given the run, by the encoder and the projector that
    it was trained with, in PyTorch. A hosted encoder gives the embeddings itself.
    """

    def __init__(self, bundle: VerifiedBundle, run: Path | None, reporter: Reporter) -> None:
        """
        Args:
            run: the run of the bundle.

        Raises:
            MismatchError: it is another run.
        """
        self.bundle = bundle
        self.reporter = reporter
        self._run = load_run(run) if run is not None else None
        if self._run is not None and self._run.fingerprint != bundle.run_fingerprint:
            raise MismatchError(
                f"{run}: must be the run that {bundle.path} was exported from"
                f" ({bundle.run_fingerprint[:12]}…), is another ({self._run.fingerprint[:12]}…)"
            )

    def embed(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Base embeddings (N, d) and embeddings (N, 1536), float32, L2-normalized.

        Raises:
            ToolkitError: neither the bundle nor a run has what it takes, or it cannot be loaded here.
            MismatchError: an encoder that is here under the name of the bundle's is another.
        """
        encode = self._packaged() if self._run is None and self.bundle.has(ENCODER) else self._in_torch()
        base = np.empty((len(texts), self.bundle.encoder.dim), np.float32)
        embeddings = np.empty((len(texts), EMBEDDING_DIM), np.float32)
        # Texts of one length together: a batch is as slow as its longest.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with self.reporter.stage("embedding", len(texts), "texts") as stage:
            for start in range(0, len(texts), CHUNK):
                picked = order[start : start + CHUNK]
                base[picked], embeddings[picked] = encode([texts[i] for i in picked])
                stage.advance(len(picked))
        return base, embeddings

    def project(self, base: Array) -> Array:
        """Base embeddings that came without their text, (N, d) to (N, 1536).

        Raises:
            ToolkitError: there is no run to take the projector from.
        """
        if base.shape[1] == EMBEDDING_DIM:
            return base
        if self._run is None or self._run.projector is None:
            raise ToolkitError(
                f"{self.bundle.path}: base embeddings need the projector of the run that the bundle was"
                " exported from; give it with --run, or texts in place of base embeddings"
            )
        with torch.inference_mode():
            projected: Array = self._run.projector(torch.from_numpy(base)).numpy()
        return projected

    def _packaged(self) -> Encode:
        model = load_mil(self.bundle.package(ENCODER))
        vocabulary = (self.bundle.path / WORDPIECE_FILE).read_text(encoding="utf-8").split("\n")[:-1]
        tokenizer = WordPiece(vocabulary)

        def encode(texts: Sequence[str]) -> tuple[Array, Array]:
            found = []
            for text in texts:
                ids = np.array([tokenizer.ids(text)], np.int32)
                found.append(model.predict({INPUT_IDS: ids, ATTENTION_MASK: np.ones_like(ids)}))
            base, embedding = (
                np.concatenate([f[name] for f in found]) for name in (SENTENCE_EMBEDDING, EMBEDDING)
            )
            return base, embedding

        return encode

    def _in_torch(self) -> Encode:
        if self._run is not None:
            encoder = load_run_encoder(self._run, "cpu", torch.float32)
        elif self.bundle.encoder.dim == EMBEDDING_DIM and not self.bundle.encoder.weights_sha256:
            encoder = load_encoder("openai", "cpu", torch.float32)
            require_same_encoder(self.bundle.encoder, encoder.identity, str(self.bundle.path))
            self.reporter.warn(f"every text leaves this machine: it is sent to {encoder.source}")
        else:
            raise ToolkitError(
                f"{self.bundle.path}: has no text encoder; export it with one, or give the run that it was"
                " exported from with --run"
            )

        def encode(texts: Sequence[str]) -> tuple[Array, Array]:
            base = encoder.encode(texts)
            return base, self.project(base)

        return encode


def feedback_latents(interactions: Sequence[Interaction], embedder: Embedder, runtime: LoadedModel) -> Tensor:
    """(N, 512) latents of interactions, whichever of text, base embedding and latent they have."""
    latents = torch.empty(len(interactions), LATENT_DIM)
    texts = [i for i, x in enumerate(interactions) if x.text is not None]
    bases = [i for i, x in enumerate(interactions) if x.base_embedding is not None]
    for i, interaction in enumerate(interactions):
        if interaction.latent is not None:
            latents[i] = interaction.latent
    if texts:
        _, embeddings = embedder.embed([interactions[i].text or "" for i in texts])
        latents[texts] = torch.from_numpy(evaluate(runtime, embeddings)[0])
    if bases:
        stacked = torch.stack([x.base_embedding for x in interactions if x.base_embedding is not None])
        latents[bases] = torch.from_numpy(evaluate(runtime, embedder.project(stacked.numpy()))[0])
    return latents
