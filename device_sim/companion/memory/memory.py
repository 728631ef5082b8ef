"""A memory: add what was said, search it, forget it.

A chunk of text is there once, however often it was said (`sayings`). It is hidden from searches if a
later chunk of the same user and role says the same, or says something else in its place; see `sameness`.
Which chunks are hidden depends on the chunks alone, not on the order in which they came and went: what
was forgotten leaves the memory as if it had never been said, and one made anew from the log is equal to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.companion.events import Event
from device_sim.companion.memory.chunks import split
from device_sim.companion.memory.database import (
    check,
    connect,
    create,
    damaged,
    scrub,
    transaction,
    translated,
)
from device_sim.companion.memory.hiding import settle
from device_sim.companion.memory.reading import hit, known_chunks, load_vectors
from device_sim.companion.memory.sameness import statement
from device_sim.companion.memory.sayings import NO_MEMORY, Hit, Known, Saying, remembered
from device_sim.companion.memory.vectors import Vectors
from device_sim.companion.memory.words import MOST_RARE, QueryWords, bm25, rare_words
from personality_common.errors import MismatchError, ToolkitError
from personality_common.files.atomic import sync_folder
from personality_common.printable import is_unicode
from personality_common.text.identity import Encoder

LEXICAL_WEIGHT: Final = 0.03
"""Of BM25 beside the cosine: chosen, as the share of rare words was, on other seeds than are reported."""
BATCH: Final = 256
"""Sayings that are embedded, compared and written at once."""


class Memory:
    """One file, which whoever holds the store may change while others read it."""

    def __init__(self, path: Path, encoder: Encoder | None = None) -> None:
        """Open a memory, or make an empty one.

        Args:
            encoder: None: for all that needs no new embedding.

        Raises:
            DamagedMemory: the file is not whole.
            MismatchError: its vectors are of another encoder.
            ToolkitError: there is none, and no encoder to make one.
        """
        self.path = path
        self.encoder = encoder
        self._lock = threading.RLock()
        self._query_words = QueryWords()
        self._views: dict[str, Vectors] = {}
        self._count: int | None = None
        if not path.exists():
            if encoder is None:
                raise ToolkitError(f"{path}: there is no memory yet; pt memory rebuild makes it from the log")
            create(path, _about(encoder))
        self._open()

    @classmethod
    def open(cls, path: Path, encoder: Encoder | None = None) -> Memory:
        return cls(path, encoder)

    def _open(self) -> None:
        self._db = connect(self.path)
        try:
            self._file = _identity(self.path)
            with translated(self.path):
                about = dict(self._db.execute("SELECT name, value FROM about"))
                self._version = self._data_version()
            if not about.get("dim", "").isdecimal() or "encoder" not in about:
                raise damaged(self.path, "does not say which encoder its vectors are of")
            self.dim = int(about["dim"])
            self.encoder_name = about.get("name", "")
            ours = self.encoder and self.encoder.identity
            if ours and ours.fingerprint != about["encoder"]:
                raise MismatchError(
                    f"{self.path}: its vectors must be of the encoder in use, {ours.name}"
                    f" ({ours.fingerprint[:12]}…), are of {self.encoder_name!r} ({about['encoder'][:12]}…);"
                    " pt memory rebuild makes them anew from the log"
                )
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._query_words.close()
            self._views.clear()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What changes it.

    def add(
        self,
        turn_id: str,
        text: str,
        user: str,
        time: str,
        role: str,
        tags: Collection[str] = (),
        source: str = "chat",
    ) -> None:
        """Remember a turn; one that is remembered already, or marked `no-memory`, changes nothing."""
        self.add_all([Saying(turn_id, text, user, time, role, frozenset(tags), source)])

    def add_all(self, sayings: Iterable[Saying]) -> int:
        """Remember turns, whatever their order; all of a batch of `BATCH`, or none.

        Returns:
            How many are new.

        Raises:
            ToolkitError: a text is no Unicode; a user has too many chunks.
        """
        waiting, added = iter(sayings), 0
        with self._lock:
            while batch := list(islice(waiting, BATCH)):
                try:
                    added += self._add_batch(batch)
                except BaseException:
                    self._drop_views()
                    raise
        return added

    def _add_batch(self, batch: list[Saying]) -> int:
        self._refresh()
        with translated(self.path):
            new = {s.turn: s for s in batch if NO_MEMORY not in s.tags and not self._has(s.turn)}
        pieces = [(s, part, text) for s in new.values() for part, text in enumerate(split(s.text))]
        for saying, _, text in pieces:
            if not is_unicode(text + saying.user):
                raise ToolkitError(f"turn {saying.turn!r}: its text must be Unicode, has half a character")
        keys = [(s.user, s.role, hashlib.sha256(text.encode()).digest()) for s, _, text in pieces]
        texts = dict(zip(keys, (text for _, _, text in pieces), strict=True))
        with translated(self.path):
            fresh = {key: text for key, text in texts.items() if self._chunk(key) is None}
        vectors = self._embed(list(fresh.values()))
        views = {saying.user: self._view(saying.user) for saying in new.values()}
        touched: dict[str, list[int]] = {}
        with transaction(self._db, self.path):
            for (user, role, sha256), text, vector in zip(fresh, fresh.values(), vectors, strict=True):
                what, value = (statement(text) if role == "user" else None) or (None, None)
                row = self._db.execute(
                    "INSERT INTO chunks (user, role, text, sha256, vector, what, value)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (user, role, text, sha256, vector.tobytes(), what, value),
                ).lastrowid
                self._db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, text))
                assert row is not None
                views[user].append(np.array([row]), vector[None], np.ones(1, bool))
            for (saying, part, _), key in zip(pieces, keys, strict=True):
                chunk = self._chunk(key)
                assert chunk is not None
                self._db.execute(
                    "INSERT INTO sayings VALUES (?, ?, ?, ?, ?, ?)",
                    (saying.turn, part, chunk, saying.time, json.dumps(sorted(saying.tags)), saying.source),
                )
                touched.setdefault(saying.user, []).append(chunk)
            for user, chunks in touched.items():
                settle(self._db, views[user], chunks)
        if self._count is not None:
            self._count += len(fresh)
        return len(new)

    def forget(self, turn_ids: Collection[str]) -> int:
        """Forget turns: what nobody else said leaves the file, byte by byte.

        Returns:
            How many chunks are gone.
        """
        with self._lock:
            self._refresh()
            try:
                gone = self._forget(sorted(set(turn_ids)))
            finally:
                self._drop_views()
            self.finish()
        return gone

    def _forget(self, turns: list[str]) -> int:
        gone = 0
        with transaction(self._db, self.path):
            touched: dict[str, set[int]] = {}
            for turn in turns:
                said = "SELECT c.user, c.id FROM sayings s JOIN chunks c ON c.id = s.chunk WHERE s.turn = ?"
                for user, chunk in self._db.execute(said, (turn,)):
                    touched.setdefault(user, set()).add(chunk)
                self._db.execute("DELETE FROM sayings WHERE turn = ?", (turn,))
            for user, chunks in touched.items():
                view = self._view(user)
                left = set()
                for chunk in chunks:
                    if self._db.execute("SELECT 1 FROM sayings WHERE chunk = ?", (chunk,)).fetchone():
                        left.add(chunk)
                        continue
                    hidden = self._db.execute("SELECT id FROM chunks WHERE hidden_by = ?", (chunk,))
                    left.update(row for (row,) in hidden)
                    self._remove(chunk, view)
                    gone += 1
                settle(self._db, view, [chunk for chunk in left if self._text(chunk) is not None])
            if touched:
                self._db.execute("INSERT OR REPLACE INTO about VALUES ('unfinished', 'forget')")
        return gone

    def _remove(self, chunk: int, view: Vectors) -> None:
        text = self._text(chunk)
        self._db.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (chunk, text))
        self._db.execute("DELETE FROM chunks WHERE id = ?", (chunk,))
        if (row := int(view.place(np.array([chunk]))[0])) >= 0:
            view.remove(row)

    def rebuild(self, events: Iterable[Event]) -> int:
        """Make it anew from the log, with the encoder in use: see `build`."""
        if self.encoder is None:
            raise ToolkitError(f"{self.path}: opened without an encoder, which this needs")
        with self._lock:
            made = build(self.path, self.encoder, remembered(events))
            self._refresh()
        return made

    def finish(self) -> None:
        """Complete what a kill stopped: after forgetting, nothing of it may stay in the file."""
        with self._lock, translated(self.path):
            if self._db.execute("SELECT 1 FROM about WHERE name = 'unfinished'").fetchone():
                scrub(self._db, self.path)
                self._db.execute("DELETE FROM about WHERE name = 'unfinished'")
        sync_folder(self.path.parent)

    def unsafe(self) -> None:
        """Neither a journal nor a wait for the disk: for a file that a kill may spoil."""
        for setting in ("journal_mode = MEMORY", "synchronous = OFF"):
            self._db.execute(f"PRAGMA {setting}").fetchall()

    # What reads it.

    def search(self, query: str, user: str, k: int = 5) -> list[Hit]:
        """The k chunks of a user that are nearest to a query, the best first.

        Score: cosine + 0.03 BM25 over the query's rare words, times their share of its words. Words that
        many chunks have do not count: fused by rank alone, they displace what answers in other words.
        """
        if not query.strip():
            return []
        with self._lock:
            self._refresh()
            view = self._view(user)
            dense = view.scores(self._embed([query])[0].astype(np.float32))
            lexical = self.lexical_scores(query, user)
            score = dense + LEXICAL_WEIGHT * lexical
            best = top(score, k)
            ids = view.ids[best]
            with translated(self.path):
                return [
                    hit(self._db, int(chunk), float(score[row]), float(dense[row]), float(lexical[row]))
                    for chunk, row in zip(ids, best, strict=True)
                ]

    def dense_scores(self, query: str, user: str) -> NDArray[np.float32]:
        """(N,) cosines in the order of `chunk_ids`; minus infinity where a chunk is hidden."""
        with self._lock:
            return self._view(user).scores(self._embed([query])[0].astype(np.float32))

    def lexical_scores(self, query: str, user: str, *, all_words: bool = False) -> NDArray[np.float32]:
        """(N,) BM25 over the query's rare words, times their share of all its words; or over all of them."""
        with self._lock, translated(self.path):
            view = self._view(user)
            words = self._query_words.of(query if is_unicode(query) else "")
            rare = words if all_words else rare_words(self._db, words, self._chunks())
            ids, scores = bm25(self._db, rare[: None if all_words else MOST_RARE])
            scores *= len(rare) / max(len(words), 1)
            rows = view.place(ids)
            found = np.zeros(len(view.ids), np.float32)
            found[rows[rows >= 0]] = scores[rows >= 0]
            return found

    def audit(self, user: str | None = None, uses: dict[str, str] | None = None) -> list[Known]:
        """All that is known of a user, or of everybody, the latest first; hidden chunks too.

        Args:
            uses: chunk -> when it was last given to an answer, which the log knows (`sayings.last_uses`).
        """
        with self._lock, translated(self.path):
            self._refresh()
            return known_chunks(self._db, user, uses or {})

    def check(self) -> None:
        """Read the whole file.

        Raises:
            DamagedMemory: something in it does not fit.
        """
        with self._lock:
            check(self._db, self.path)

    def turns(self) -> frozenset[str]:
        """All that it has anything of."""
        with self._lock, translated(self.path):
            return frozenset(turn for (turn,) in self._db.execute("SELECT DISTINCT turn FROM sayings"))

    def chunk_ids(self, user: str) -> list[str]:
        """(N,) names of the chunks, in the order of the scores; "" where one is gone."""
        with self._lock, translated(self.path):
            names = {
                row: f"{turn}.{part}"
                for row, turn, part in self._db.execute(
                    "SELECT chunk, turn, part FROM sayings ORDER BY time, turn, part"
                )
            }
            return [names.get(int(chunk), "") for chunk in self._view(user).ids]

    # Inside.

    def _embed(self, texts: list[str]) -> NDArray[np.float16]:
        """(N, dim), L2-normalized, as precise as it is stored."""
        if not texts:
            return np.empty((0, self.dim), np.float16)
        if self.encoder is None:
            raise ToolkitError(f"{self.path}: opened without an encoder, which this needs")
        vectors = np.asarray(self.encoder.encode(texts))
        if vectors.shape != (len(texts), self.dim) or not np.isfinite(vectors).all():
            raise ToolkitError(
                f"the encoder must give ({len(texts)}, {self.dim}) finite numbers, gave {vectors.shape}"
            )
        return vectors.astype(np.float16)

    def _view(self, user: str) -> Vectors:
        if (view := self._views.get(user)) is not None:
            return view
        with translated(self.path):
            view = load_vectors(self._db, self.path, user, self.dim)
        self._views[user] = view
        return view

    def _has(self, turn: str) -> bool:
        return self._db.execute("SELECT 1 FROM sayings WHERE turn = ?", (turn,)).fetchone() is not None

    def _chunk(self, key: tuple[str, str, bytes]) -> int | None:
        row = self._db.execute(
            "SELECT id FROM chunks WHERE user = ? AND role = ? AND sha256 = ?", key
        ).fetchone()
        return row and int(row[0])

    def _text(self, chunk: int) -> str | None:
        row = self._db.execute("SELECT text FROM chunks WHERE id = ?", (chunk,)).fetchone()
        return row and str(row[0])

    def _chunks(self) -> int:
        if self._count is None:
            (self._count,) = self._db.execute("SELECT count(*) FROM words_docsize").fetchone()
        return self._count

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _refresh(self) -> None:
        """Notice that another process changed the file, or put another in its place."""
        if _identity(self.path) != self._file:
            self._db.close()
            self._drop_views()
            self._open()
        with translated(self.path):
            version = self._data_version()
        if version != self._version:
            self._version = version
            self._drop_views()

    def _drop_views(self) -> None:
        self._views.clear()
        self._count = None


def build(path: Path, encoder: Encoder, sayings: Iterable[Saying]) -> int:
    """Make a memory aside and put it in the place of the one that is there, if any, in one step.

    Whoever reads meanwhile reads the old one; the caller holds the store, so that nobody writes to it.

    Returns:
        How many turns it is made of.
    """
    clear_aside(path)
    aside = aside_of(path)
    with Memory(aside, encoder) as memory:
        memory.unsafe()
        made = memory.add_all(sayings)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    journal = Path(f"{path}-journal")
    if journal.exists():
        # What a kill left belongs to the old file alone: SQLite would apply it to the new one. A kill between
        # these lines leaves no memory, and the next one is made from the log.
        path.unlink(missing_ok=True)
        journal.unlink()
    aside.replace(path)
    sync_folder(path.parent)
    return made


def clear_aside(path: Path) -> None:
    """Remove what a kill left of a memory that was being made, and its journal, which has texts in it."""
    for name in (aside_of(path), Path(f"{aside_of(path)}-journal")):
        name.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """Where a memory is built that will take the place of `path`; named as what a kill may leave."""
    return path.with_name(f".{path.name}.rebuild.tmp")


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k greatest finite scores, the greatest first; of equal ones the later row."""
    rows = np.argpartition(scores, -k)[-k:] if len(scores) > k else np.arange(len(scores))
    rows = rows[np.lexsort((rows, scores[rows]))[::-1]]
    return rows[np.isfinite(scores[rows])]


def _about(encoder: Encoder) -> dict[str, str]:
    identity = encoder.identity
    return {"encoder": identity.fingerprint, "name": identity.name, "dim": str(identity.dim)}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
