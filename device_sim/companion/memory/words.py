"""The lexical half of a search: rare words of the query, by SQLite's BM25."""

from __future__ import annotations

import sqlite3
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.companion.memory.database import TOKENIZER

RARE_SHARE: Final = 0.01
"""A word is rare that is in at most this share of the chunks."""
RARE_AT_LEAST: Final = 3
"""Chunks that a rare word may be in, however few there are: 1% of a young memory is less than one."""
MOST_WORDS: Final = 64
"""Of a query that are looked up."""
MOST_RARE: Final = 8
"""Of them that are searched for, the rarest: each may be in 1% of the chunks, which takes its time."""


class QueryWords:
    """Takes a query apart as the index does.

    The index's own tokenizer does it, and what it gives has neither quotes nor operators: a query's text
    never comes near the syntax of FTS5.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute(f"CREATE VIRTUAL TABLE query USING fts5(text, tokenize='{TOKENIZER}')")
        self._db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(query, 'row')")

    def of(self, query: str) -> list[str]:
        """The words, each once, in alphabetical order."""
        self._db.execute("DELETE FROM query")
        self._db.execute("INSERT INTO query VALUES (?)", (query,))
        return [term for (term,) in self._db.execute("SELECT term FROM terms LIMIT ?", (MOST_WORDS,))]

    def close(self) -> None:
        self._db.close()


def rare_words(connection: sqlite3.Connection, words: list[str], chunks: int) -> list[str]:
    """Those that a memory of so many chunks knows, but not in more than 1% of them; the rarest first.

    A common word is counted only up to there.
    """
    most = max(RARE_AT_LEAST, int(RARE_SHARE * chunks))
    found = []
    for word in words:
        (count,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)",
            (quoted(word), most + 1),
        ).fetchone()
        if 0 < count <= most:
            found.append((count, word))
    return [word for _, word in sorted(found)[:MOST_RARE]]


def bm25(connection: sqlite3.Connection, words: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(n,) chunks that have any of the words, of all users, ids rising; (n,) BM25, higher is better."""
    if not words:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rows = connection.execute(
        "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid",
        (" OR ".join(map(quoted, words)),),
    ).fetchall()
    return np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float32)


def quoted(word: str) -> str:
    """A word as a string of FTS5, in which nothing is an operator."""
    return '"' + word.replace('"', '""') + '"'
