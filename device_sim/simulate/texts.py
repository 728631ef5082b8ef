"""Texts as the model sees them: chosen, embedded with the run's encoder, and taken through the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from device_sim.mil import load_mil
from device_sim.runtimes.runtime import LoadedModel
from device_sim.simulate.config import HELD_OUT_FRACTION, HELD_OUT_TEXTS
from grpo.feedback import Interaction
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    EMBEDDING_DIM,
    INPUT_IDS,
    LATENT,
    LATENT_DIM,
    SENTENCE_EMBEDDING,
    WORDPIECE_FILE,
)
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.terminal.progress import Reporter
from personality_common.text.consent import require_consent, tell
from personality_common.text.encoder import load_encoder
from personality_common.text.identity import require_same_encoder
from personality_common.text.sentence import SentenceEncoder
from personality_common.text.wordpiece import WordPiece
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.data.split import is_validation
from pretrain.personality.run import load_run, load_run_encoder

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

    A text is held out by its own hash (`pretrain.data.split`), so no night ever trains on it, whatever the
    seed.

    Args:
        source: as for `pt pretrain --data`.
        needed: training texts.
        seed: which ones.

    Raises:
        DataError: the source is malformed, or has too few texts.
    """
    available = split_texts(source, needed)
    training, held_out = choose_rows(len(available.training), len(available.held_out), needed, seed)
    return Chosen(
        tuple(available.training[i] for i in training.tolist()),
        tuple(available.held_out[i] for i in held_out.tolist()),
    )


def split_texts(source: str, needed: int) -> Chosen:
    """All texts of the source; see `choose_texts`."""
    texts, _ = read_texts(DataConfig(source, max_samples=MAX_TEXTS))
    held_out = tuple(text for text in texts if is_validation(text, HELD_OUT_FRACTION))
    training = tuple(text for text in texts if not is_validation(text, HELD_OUT_FRACTION))
    if len(training) < needed or len(held_out) < 2:
        raise DataError(
            f"{source}: must have {needed} distinct texts to train on (nights * interactions) and 2 held out"
            f" ({HELD_OUT_FRACTION:.0%} are), has {len(training)} and {len(held_out)}; lower --nights or"
            " --interactions, or give more data"
        )
    return Chosen(training, held_out)


def choose_rows(training: int, held_out: int, needed: int, seed: int) -> tuple[Tensor, Tensor]:
    """Which of so many texts a device with this seed trains on, (needed,), and is measured on."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randperm(training, generator=generator)[:needed],
        torch.randperm(held_out, generator=generator)[:HELD_OUT_TEXTS],
    )


class Embedder:
    """Texts -> base embeddings and embeddings, as an app with this bundle computes them.

    By the bundle's own text encoder, interpreted; or, given the run, by the encoder and the projector that
    it was trained with, in PyTorch. A hosted encoder gives the embeddings itself.
    """

    def __init__(
        self, bundle: VerifiedBundle, run: Path | None, reporter: Reporter, allow_remote: bool = False
    ) -> None:
        """
        Args:
            run: the run of the bundle.
            allow_remote: see `pretrain.personality.run.load_run_encoder`.

        Raises:
            MismatchError: it is another run.
        """
        self.bundle = bundle
        self.reporter = reporter
        self.allow_remote = allow_remote
        self._run = load_run(run) if run is not None else None
        self._encode: Encode | None = None
        if self._run is not None and self._run.fingerprint != bundle.run_fingerprint:
            raise MismatchError(
                f"{run}: must be the run that {bundle.path} was exported from"
                f" ({bundle.run_fingerprint[:12]}…), is another ({self._run.fingerprint[:12]}…)"
            )

    def open(self) -> Encode:
        """Load the encoder, if that has not been done; says so if texts will leave this machine.

        Raises:
            ConfigError: neither the bundle nor a run has what it takes.
            ToolkitError: it cannot be loaded here.
            MismatchError: an encoder that is here under the name of the bundle's is another.
        """
        if self._encode is None:
            packaged = self._run is None and self.bundle.has(ENCODER)
            self._encode = self._packaged() if packaged else self._in_torch()
        return self._encode

    def embed(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Base embeddings (N, d) and embeddings (N, 1536), float32, L2-normalized.

        A text gets the same bits whatever texts are with it, and on any number of threads: where the encoder
        does not see to that itself, it goes through it alone. (A hosted one computes where nobody sees it.)

        Raises:
            ToolkitError, MismatchError: as `open`.
        """
        encode = self.open()
        base = np.empty((len(texts), self.bundle.encoder.dim), np.float32)
        embeddings = np.empty((len(texts), EMBEDDING_DIM), np.float32)
        with self.reporter.stage("embedding", len(texts), "texts") as stage, threadpool_limits(1):
            for start in range(0, len(texts), CHUNK):
                picked = slice(start, start + CHUNK)
                base[picked], embeddings[picked] = encode(texts[picked])
                stage.advance(len(texts[picked]))
        return base, embeddings

    def project(self, base: Array) -> Array:
        """Base embeddings that came without their text, (N, d) to (N, 1536).

        Raises:
            ConfigError: there is no run to take the projector from.
        """
        if base.shape[1] == EMBEDDING_DIM:
            return base
        if self._run is None or self._run.projector is None:
            raise ConfigError(
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
            ids = np.array([tokenizer.ids(text) for text in texts], np.int32)
            found = model.predict({INPUT_IDS: ids, ATTENTION_MASK: np.ones_like(ids)})
            return found[SENTENCE_EMBEDDING], found[EMBEDDING]

        return one_by_one(encode)

    def _in_torch(self) -> Encode:
        if self._run is not None:
            encoder = load_run_encoder(self._run, "cpu", torch.float32, self.reporter, self.allow_remote)
        elif self.bundle.encoder.dim == EMBEDDING_DIM and not self.bundle.encoder.weights_sha256:
            bundle = self.bundle
            require_consent(bundle.run_fingerprint, bundle.encoder, bundle.path, self.allow_remote)
            encoder = load_encoder("openai", "cpu", torch.float32)
            require_same_encoder(bundle.encoder, encoder.identity, str(bundle.path))
            tell(encoder, self.reporter)
        else:
            raise ConfigError(
                f"{self.bundle.path}: has no text encoder; export it with one, or give the run that it was"
                " exported from with --run"
            )

        def encode(texts: Sequence[str]) -> tuple[Array, Array]:
            base = encoder.encode(texts)
            return base, self.project(base)

        def together(texts: Sequence[str]) -> tuple[Array, Array]:
            base = encoder.encode(texts)
            return base, np.concatenate([self.project(row[None]) for row in base])

        if not encoder.identity.weights_sha256:
            return encode
        free = isinstance(encoder, SentenceEncoder) and encoder.batches_freely
        return together if free else one_by_one(encode)


def one_by_one(encode: Encode) -> Encode:
    """Each text alone: in a batch, sums would be in an order that depends on the batch."""

    def encode_each(texts: Sequence[str]) -> tuple[Array, Array]:
        found = [encode([text]) for text in texts]
        base, embeddings = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return base, embeddings

    return encode_each


def latents_of(runtime: LoadedModel, embeddings: Array) -> Array:
    """(N, 1536) to (N, 512): each row alone and on one thread, so that its bits depend on nothing else."""
    with threadpool_limits(1):
        return np.concatenate([runtime.predict({EMBEDDING: row[None]})[LATENT] for row in embeddings])


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
        latents[texts] = torch.from_numpy(latents_of(runtime, embeddings))
    if bases:
        stacked = torch.stack([x.base_embedding for x in interactions if x.base_embedding is not None])
        latents[bases] = torch.from_numpy(latents_of(runtime, embedder.project(stacked.numpy())))
    return latents
