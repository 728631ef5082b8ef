"""Bits per byte of held-out text, by source: the model beside Kneser-Ney and xz, who know the training text.

All three say what bears loss and are given the rest. The model and Kneser-Ney predict the same tokens, ends
of turns among them; a byte is one of the text that bears loss, in UTF-8.
"""

from __future__ import annotations

import lzma
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
import torch

from personality_common.terminal.progress import Reporter
from pretrain.lm.chat import PERSPECTIVES, Document
from pretrain.lm.data.folder import Data
from pretrain.lm.kneser_ney import KneserNey
from pretrain.lm.model import Decoder
from pretrain.lm.packing import Fill, pack
from pretrain.lm.tokenizer import Tokenizer
from pretrain.lm.training import batch_loss

MOST_BYTES: Final = 1 << 18
"""Of held-out text of a source."""
MOST_TOKENS: Final = 1 << 24
"""Of training text for Kneser-Ney."""
MOST_XZ_BYTES: Final = 8 << 20
"""Of training text of a source for xz, which is as slow as it is thorough."""
BATCH: Final = 16
TOLD_EVERY: Final = 500
_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 4 * MOST_XZ_BYTES}]


@dataclass(frozen=True)
class Bits:
    """Of a source.

    Attributes:
        documents: that were measured.
        bytes: of their text that bears loss.
        model, kneser_ney, xz: bits per byte.
    """

    documents: int
    bytes: int
    model: float
    kneser_ney: float
    xz: float


@dataclass(frozen=True)
class TagBits:
    """What a perspective's tag is worth.

    Attributes:
        documents: that have one.
        right, shuffled: the model's bits per byte under the tag and under another.
    """

    documents: int
    right: float
    shuffled: float


class Training:
    """The training text, as the baselines know it.

    Attributes:
        kneser_ney: of the first MOST_TOKENS; a document that is there several times counts once.
        texts: the first MOST_XZ_BYTES of each source.
    """

    def __init__(self, data: Data, tokenizer: Tokenizer, reporter: Reporter) -> None:
        texts: dict[str, bytearray] = defaultdict(bytearray)
        encoded: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        seen: set[int] = set()
        tokens = 0
        total = sum(shard.documents for shard in data.record.files.values() if shard.split == "train")
        with reporter.stage("counting n-grams", total, "documents") as stage:
            for number, document in enumerate(data.documents("train"), 1):
                if number % TOLD_EVERY == 0:
                    stage.advance(TOLD_EVERY)
                if len(texts[document.source]) < MOST_XZ_BYTES:
                    texts[document.source] += full_text(document)
                if tokens < MOST_TOKENS:
                    ids = np.array(tokenizer.encode_document(document)[0], np.int64)
                    if (key := hash(ids.tobytes())) not in seen:
                        seen.add(key)
                        encoded.append(ids)
                        tokens += len(ids)
        self.texts = {source: bytes(text) for source, text in texts.items()}
        self.kneser_ney = KneserNey(encoded, tokenizer.vocab_size)


def measure(model: Decoder, tokenizer: Tokenizer, documents: Sequence[Document], training: Training) -> Bits:
    """Of the documents of one source, 1 or more."""
    size = sum(map(bytes_of, documents))
    encoded = [tokenizer.encode_document(document) for document in documents]
    p = training.kneser_ney.probabilities([np.array(ids, np.int64) for ids, _ in encoded])
    bearing = np.concatenate([loss for _, loss in encoded])
    return Bits(
        len(documents),
        size,
        model_bits(model, tokenizer, documents) / size,
        float(-np.log2(p[bearing]).sum()) / size,
        xz_bits(training.texts.get(documents[0].source, b""), documents) / size,
    )


@torch.inference_mode()
def model_bits(model: Decoder, tokenizer: Tokenizer, documents: Iterable[Document]) -> float:
    """Bits that a model needs for what bears loss; it looks back as far as its context is long."""
    length = model.config.context_length
    rows = pack((tokenizer.encode_document(document) for document in documents), length, Fill(length))
    nats = 0.0
    while batch := list(islice(rows, BATCH)):
        nats += float(batch_loss(model, np.stack(batch), "cpu").double().sum())
    return nats / math.log(2)


def tag_bits(model: Decoder, tokenizer: Tokenizer, documents: Sequence[Document]) -> TagBits:
    """Of documents with a perspective, 1 or more; another is the next in the order of tags among theirs."""
    present = [name for name in PERSPECTIVES if any(d.perspective == name for d in documents)]
    shuffled = [
        replace(d, perspective=present[(present.index(d.perspective) + 1) % len(present)])
        for d in documents
        if d.perspective
    ]
    size = sum(map(bytes_of, documents))
    right, other = (model_bits(model, tokenizer, some) / size for some in (documents, shuffled))
    return TagBits(len(documents), right, other)


def xz_bits(training: bytes, documents: Sequence[Document]) -> float:
    """What it adds, in bits, that the text which bears loss is there, too, after the training text."""
    whole, given = b"".join(map(full_text, documents)), b"".join(map(given_text, documents))
    return 8.0 * (_xz(training + whole) - _xz(training + given))


def bytes_of(document: Document) -> int:
    """Of text that bears loss."""
    return sum(len(turn.text.encode()) for turn in document.turns if turn.loss)


def full_text(document: Document) -> bytes:
    """A turn per line."""
    return "".join(f"{turn.text}\n" for turn in document.turns).encode()


def given_text(document: Document) -> bytes:
    """The same, without what bears loss."""
    return "".join(f"{turn.text}\n" for turn in document.turns if not turn.loss).encode()


def _xz(text: bytes) -> int:
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=_FILTERS))
