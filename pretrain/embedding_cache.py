"""Base embeddings on disk, keyed by encoder and text, in shards that are each complete or absent.

    cache/<first 16 hex digits of the encoder's key>/shard-<SHA-256 of the file>.npy

A shard is a NumPy structured array: `key` (16 bytes, BLAKE2b of the UTF-8 text) and `embedding`
(dim little-endian float32). It is written aside and renamed; its name is its checksum, so damage
shows when the cache is opened: the shard is named, removed, and its texts are embedded again.
Shards are memory-mapped; what is held in memory is one dictionary entry per text.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.encoder import Encoder
from personality_common.errors import DataError
from personality_common.files import atomic_writer, file_sha256
from personality_common.progress import Reporter

SHARD_TEXTS: Final = 2048
"""Texts per shard: what a kill can lose, about 6 s of MiniLM on 2 cores."""

REQUEST_TEXTS: Final = 256
"""Texts that the encoder is given at once: progress is told between two such requests."""

KEY_BYTES: Final = 16


def text_key(text: str) -> bytes:
    """BLAKE2b-128 of the text's UTF-8 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


class EmbeddingCache:
    """The shards of one encoder under a folder."""

    def __init__(self, folder: Path, encoder: Encoder, reporter: Reporter) -> None:
        """Open the cache and verify every shard; a damaged one is reported and removed.

        Raises:
            OSError: the folder cannot be read or written.
        """
        identity = f"{encoder.identity.fingerprint} {encoder.compute_dtype}"
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.encoder = encoder
        self.dim = encoder.identity.dim
        self._reporter = reporter
        self._dtype = np.dtype([("key", "u1", (KEY_BYTES,)), ("embedding", "<f4", (self.dim,))])
        self._shards: list[NDArray[np.void]] = []
        self._rows: dict[bytes, int] = {}
        """Text key -> row in the sequence of all shards."""
        self._starts: list[int] = [0]
        for stale in self.folder.glob(".shard-*.tmp"):
            stale.unlink()  # a kill left it in the middle of a write
        for path in sorted(self.folder.glob("shard-*.npy")):
            try:
                self._open_shard(path)
            except DataError as error:
                reporter.warn(f"{error}; removed, its texts will be embedded again")
                path.unlink()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, texts: Sequence[str]) -> int:
        """Embed the texts that are not here yet, a shard at a time; returns how many.

        Texts go to the encoder in chunks of SHARD_TEXTS missing ones, in the order given. So a job
        that is killed and started again makes the same chunks as one that was not, and the same bits.

        Raises:
            ToolkitError: the encoder failed; what was finished is kept.
            OSError: a shard cannot be written; what was finished is kept.
        """
        missing = [text for text in dict.fromkeys(texts) if text_key(text) not in self._rows]
        if not missing:
            return 0
        with self._reporter.stage("embedding", len(missing), "texts") as stage:
            for start in range(0, len(missing), SHARD_TEXTS):
                chunk = missing[start : start + SHARD_TEXTS]
                shard = np.empty(len(chunk), self._dtype)
                shard["key"] = [np.frombuffer(text_key(text), np.uint8) for text in chunk]
                # Texts of one length together: a batch is as slow as its longest.
                by_length = sorted(range(len(chunk)), key=lambda i: len(chunk[i]))
                for first in range(0, len(chunk), REQUEST_TEXTS):
                    picked = by_length[first : first + REQUEST_TEXTS]
                    shard["embedding"][picked] = self.encoder.encode([chunk[i] for i in picked])
                    stage.advance(len(picked))
                self._open_shard(self._write_shard(shard), verified=True)
        return len(missing)

    def rows(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """(N,) rows of texts that are here, for `embeddings`.

        Raises:
            KeyError: a text was never added.
        """
        return np.fromiter((self._rows[text_key(text)] for text in texts), np.int64)

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, dim) float32: base embeddings of those rows, copied from the map."""
        result = np.empty((len(rows), self.dim), np.float32)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for i, (shard, row) in enumerate(zip(shards, rows, strict=True)):
            result[i] = self._shards[shard]["embedding"][row - self._starts[shard]]
        return result

    def _write_shard(self, shard: NDArray[np.void]) -> Path:
        content = io.BytesIO()
        np.save(content, shard, allow_pickle=False)
        path = self.folder / f"shard-{hashlib.sha256(content.getbuffer()).hexdigest()}.npy"
        with atomic_writer(path) as file:
            file.write(content.getbuffer())
        return path

    def _open_shard(self, path: Path, verified: bool = False) -> None:
        if not verified and f"shard-{file_sha256(path)}.npy" != path.name:
            raise DataError(f"{path}: damaged: its content does not match the checksum in its name")
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{path}: not a cache shard: {error}") from None
        if shard.dtype != self._dtype or shard.ndim != 1:
            raise DataError(f"{path}: not a cache shard of this encoder: {shard.dtype}")
        start = self._starts[-1]
        for i, key in enumerate(shard["key"]):
            self._rows.setdefault(key.tobytes(), start + i)
        self._shards.append(shard)
        self._starts.append(start + len(shard))
