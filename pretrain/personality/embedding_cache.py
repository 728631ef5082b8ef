"""Base embeddings on disk, keyed by encoder and text, in shards that are each complete or absent.

    cache/<first 16 hex digits of the encoder's key>/shard-<SHA-256 of the file>.npy

A shard is one NumPy record: `key` (n strings of 16 bytes, see `pretrain.data.keys`) and `embedding` (n, dim
little-endian float32). It is written aside and renamed; its name is its checksum, so damage shows when
the cache is opened: the shard is named, removed, and its texts are embedded again. Nothing is held in
memory for a text: who looks for some reads the keys of the shards, one shard at a time.

The processes of a job share a cache: each writes shards of its own, and sees those of the others after
`refresh`. A row is the same text's for all of them, so the leader says in which order the shards are.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from personality_common.files.atomic import atomic_writer, file_sha256
from personality_common.runs.processes import ALONE, Processes
from personality_common.terminal.progress import Reporter
from personality_common.text.identity import Encoder
from pretrain.data.keys import KEY_BYTES, KEY_DTYPE, text_keys

SHARD_TEXTS: Final = 2048
"""Texts per shard: what a kill can lose, about 2 s of MiniLM on 2 cores."""

MOST_SHARDS: Final = 1 << 14
"""Beyond, shards grow: a folder of many small files is slow to list and to open."""

REQUEST_TEXTS: Final = 256
"""Texts that the encoder is given at once: progress is told between two such requests."""

MOST_OPEN: Final = 512
"""Shards that are open at a time; a process may have 1,024 files open, by the usual limit."""

ROUNDING: Final = "one shape"
"""How embeddings computed here round; another word when their last bits change, so that none are mixed."""


class EmbeddingCache:
    """The shards of one encoder under a folder."""

    def __init__(
        self, folder: Path, encoder: Encoder, reporter: Reporter, processes: Processes = ALONE
    ) -> None:
        """Open the cache and verify every shard; a damaged one is reported and removed.

        Of several processes, the leader does so, and the others wait.

        Raises:
            OSError: the folder cannot be read or written.
        """
        identity = f"{encoder.identity.fingerprint} {encoder.compute_dtype}"
        if encoder.identity.weights_sha256:  # else hosted: paid for, and computed elsewhere
            identity += f" {ROUNDING}"
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.encoder = encoder
        self.dim = encoder.identity.dim
        self._reporter = reporter
        self._processes = processes
        self._open: dict[Path, int] = {}
        self._shards: dict[str, _Shard] = {}
        self._starts: NDArray[np.int64] = np.zeros(1, np.int64)
        processes.share(self._sweep if processes.leads else lambda: None)
        self.refresh()

    def __len__(self) -> int:
        """Texts in the shards."""
        return int(self._starts[-1])

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the checksums of all shards: equal for caches that give the same bits."""
        return hashlib.sha256("\n".join(sorted(self._shards)).encode()).hexdigest()

    def missing(self, keys: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """(N,) whether a key is not here."""
        return self._find(keys) < 0

    def add(self, texts: Sequence[str]) -> int:
        """Embed the texts that are not here yet; of several processes, which all call this, the leader does.

        Returns how many. Raises as `embed`.
        """
        distinct = list(dict.fromkeys(texts))
        missing = [distinct[i] for i in self.missing(text_keys(distinct)).nonzero()[0]]
        self._processes.share(lambda: self.embed(missing, len(missing)) if self._processes.leads else None)
        self.refresh()
        return len(missing)

    def embed(self, texts: Iterable[str], count: int) -> None:
        """Embed `count` distinct texts that are not here; `refresh` makes them visible.

        Texts go to the encoder a shard at a time, in the order given. So a job that is killed and started
        again makes the same shards as one that was not, and the same bits.

        Raises:
            ToolkitError: the encoder failed; what was finished is kept.
            OSError: a shard cannot be written; what was finished is kept.
        """
        if not count:
            return
        waiting = iter(texts)
        size = max(SHARD_TEXTS, -(-(len(self) + count * self._processes.size) // MOST_SHARDS))
        with self._reporter.stage("embedding", count, "texts") as stage:
            while chunk := list(islice(waiting, size)):
                embedding = np.empty((len(chunk), self.dim), np.float32)
                # Texts of one length together: a batch is as slow as its longest.
                by_length = sorted(range(len(chunk)), key=lambda i: len(chunk[i]))
                for first in range(0, len(chunk), REQUEST_TEXTS):
                    picked = by_length[first : first + REQUEST_TEXTS]
                    embedding[picked] = self.encoder.encode([chunk[i] for i in picked])
                    stage.advance(len(picked))
                self._write_shard(text_keys(chunk), embedding)

    def refresh(self) -> None:
        """Take in the shards that were written since, by whichever process; for all processes together."""
        found = sorted(path.name for path in self.folder.glob("shard-*.npy") if path.name not in self._shards)
        # Another job may write here, too, and each process see another part of what it has written.
        for name in self._processes.gather_text("\n".join(found))[0].split():
            self._shards[name] = _Shard(self.folder / name, self.dim)
        self._starts = np.cumsum([0, *(shard.texts for shard in self._shards.values())])

    def rows(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """(N,) rows of keys that are here, for `embeddings`.

        Raises:
            KeyError: a text was never added.
        """
        rows = self._find(keys)
        if (rows < 0).any():
            raise KeyError("a text that was never added")
        return rows

    def _find(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """(N,) rows in the sequence of all shards, the first of each key; -1 where it is not here."""
        rows = np.full(len(keys), -1, np.int64)
        order = np.argsort(keys, kind="stable")
        for start, shard in zip(self._starts.tolist(), self._shards.values(), strict=False):
            held = shard.keys()
            by_key = np.argsort(held, kind="stable")
            # A shard was written in the order of keys, so it has few of all.
            low = np.searchsorted(keys, held[by_key[:1]], side="left", sorter=order)
            high = np.searchsorted(keys, held[by_key[-1:]], side="right", sorter=order)
            for looked_for in (order[a:b] for a, b in zip(low, high, strict=True)):
                at = np.searchsorted(held, keys[looked_for], sorter=by_key).clip(max=len(held) - 1)
                here = (held[by_key[at]] == keys[looked_for]) & (rows[looked_for] < 0)
                rows[looked_for[here]] = start + by_key[at[here]]
        return rows

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, dim) float32: base embeddings of those rows, read from the files.

        Read, not mapped: the kernel maps whole files around a row (Linux 6.18, 1.7 MB of a shard of 3 MB), so
        shuffled rows of a map soon make all of the cache count as this process's memory.

        Raises:
            DataError: a shard has become shorter.
        """
        shards = list(self._shards.values())
        result = np.empty((len(rows), self.dim), np.float32)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        offsets = (rows - self._starts[numbers]) * (self.dim * result.itemsize)
        # In the order of the shards: each is opened once at most.
        for i in np.argsort(numbers, kind="stable").tolist():
            shard = shards[numbers[i]]
            content = os.pread(
                self._descriptor(shard), result[i].nbytes, shard.embeddings_at + int(offsets[i])
            )
            if len(content) < result[i].nbytes:
                raise DataError(f"{shard.path}: has become shorter; start again, and it is embedded anew")
            result[i] = np.frombuffer(content, "<f4")
        return result

    def _descriptor(self, shard: _Shard) -> int:
        descriptor = self._open.pop(shard.path, None)
        if descriptor is None:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            descriptor = os.open(shard.path, os.O_RDONLY)
        self._open[shard.path] = descriptor  # the last is the one that was used last
        return descriptor

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what is half written or damaged."""
        for stale in self.folder.glob(".shard-*.tmp"):
            stale.unlink()  # a kill left it in the middle of a write
        for path in sorted(self.folder.glob("shard-*.npy")):
            try:
                if f"shard-{file_sha256(path)}.npy" != path.name:
                    raise DataError(f"{path}: damaged: its content does not match the checksum in its name")
                _Shard(path, self.dim)
            except DataError as error:
                self._reporter.warn(f"{error}; removed, its texts will be embedded again")
                path.unlink()

    def _write_shard(self, keys: NDArray[np.bytes_], embedding: NDArray[np.float32]) -> None:
        record = np.empty((), _record(len(keys), self.dim))
        record["key"], record["embedding"] = keys, embedding
        content = io.BytesIO()
        np.save(content, record, allow_pickle=False)
        path = self.folder / f"shard-{hashlib.sha256(content.getbuffer()).hexdigest()}.npy"
        with atomic_writer(path, private=True) as file:
            file.write(content.getbuffer())


class _Shard:
    """A shard file: where in it keys and embeddings are."""

    def __init__(self, path: Path, dim: int) -> None:
        """Raises DataError: not a shard of embeddings of this dimension."""
        self.path = path
        with path.open("rb") as file:
            try:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError("an unknown version of the NumPy format")
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                raise DataError(f"{path}: not a cache shard: {error}") from None
            self.texts = dtype["key"].shape[0] if shape == () and dtype.names == ("key", "embedding") else -1
            self._keys_at = file.tell()
        size = path.stat().st_size - self._keys_at
        if self.texts < 0 or dtype != _record(self.texts, dim) or size != dtype.itemsize:
            raise DataError(f"{path}: not a cache shard of this encoder: {shape} {dtype}"[:300])
        self.embeddings_at = self._keys_at + self.texts * KEY_BYTES

    def keys(self) -> NDArray[np.bytes_]:
        """(n,)."""
        return np.fromfile(self.path, KEY_DTYPE, self.texts, offset=self._keys_at)


def _record(texts: int, dim: int) -> np.dtype[np.void]:
    return np.dtype([("key", KEY_DTYPE, (texts,)), ("embedding", "<f4", (texts, dim))])
