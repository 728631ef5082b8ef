"""The file of a memory: SQLite that is checked before it is believed, and whose errors say what to do.

It keeps a rollback journal rather than a write-ahead log: what is forgotten is in one file fewer, and that
one file can be swapped for another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from personality_common.errors import DataError, ToolkitError

VERSION: Final = 1
WAIT_S: Final = 20.0
"""For another process; the longest that one takes is to shrink the file after forgetting."""
TOKENIZER: Final = "unicode61"

SCHEMA: Final = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL,
  sha256 BLOB NOT NULL, vector BLOB NOT NULL, what TEXT, value TEXT, hidden_by INTEGER, why TEXT
);
CREATE UNIQUE INDEX chunks_by_text ON chunks (user, role, sha256);
CREATE INDEX chunks_by_what ON chunks (user, role, what) WHERE what IS NOT NULL;
CREATE INDEX chunks_by_hidden ON chunks (hidden_by) WHERE hidden_by IS NOT NULL;
CREATE TABLE sayings (
  turn TEXT NOT NULL, part INTEGER NOT NULL, chunk INTEGER NOT NULL, time TEXT NOT NULL, tags TEXT NOT NULL,
  source TEXT NOT NULL, PRIMARY KEY (turn, part)
) WITHOUT ROWID;
CREATE INDEX sayings_by_chunk ON sayings (chunk, time, turn, part);
CREATE VIRTUAL TABLE words USING fts5(text, content='chunks', content_rowid='id', tokenize='{TOKENIZER}');
"""


class DamagedMemory(DataError):
    """The file is no memory, or not whole; the log has all that it is made of."""


def damaged(path: Path, reason: str) -> DamagedMemory:
    return DamagedMemory(
        f"{path}: must be a whole memory, {reason}; pt memory rebuild makes it anew from the log"
    )


def create(path: Path, about: dict[str, str]) -> None:
    """Make an empty memory, which nobody else may read.

    Raises:
        FileExistsError: there is a file of that name.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with contextlib.closing(_connect(path)) as connection, translated(path):
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";\n")[:-1]:
            connection.execute(statement)
        connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """Open a memory after a look at its version and every name in it; SQLite itself sees where it is cut off.

    Raises:
        DamagedMemory: it is cut off, or has another schema than this module's.
        DataError: it is a link, or no file.
    """
    connection = _connect(path)
    try:
        with translated(path):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            found = _names(connection)
            with contextlib.closing(sqlite3.connect(":memory:")) as model:
                model.executescript(SCHEMA)
                expected = _names(model)
        if version != VERSION or found != expected:
            raise damaged(path, f"is of another schema (version {version})")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All or nothing; another process's transaction is waited for."""
    with translated(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as the project's: no room, no permission, somebody else's turn, or damage."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ToolkitError(f"{path}: another process is at work in it; try again") from None
        numbers = {
            sqlite3.SQLITE_FULL: errno.ENOSPC,
            sqlite3.SQLITE_IOERR: errno.EIO,
            sqlite3.SQLITE_READONLY: errno.EROFS,
            sqlite3.SQLITE_PERM: errno.EACCES,
            sqlite3.SQLITE_CANTOPEN: errno.EACCES,
        }
        if code in numbers:
            raise OSError(numbers[code], os.strerror(numbers[code]), str(path)) from None
        raise damaged(path, f"is not ({str(error)[:100]})") from None


def scrub(connection: sqlite3.Connection, path: Path) -> None:
    """Let nothing of deleted rows stay in the file: not in the words' index, nor in pages that are free.

    Deleted rows are overwritten (`secure_delete`); the index of words keeps deleted words until its parts are
    merged, so they are; and the file is written anew without its free pages.
    """
    with translated(path):
        connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        connection.execute("VACUUM")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read all of it: every page, every index, and the index of words against the texts.

    Raises:
        DamagedMemory: something does not fit.
    """
    with translated(path):
        (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise damaged(path, f"is not ({said[:100]})")
        connection.execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")


def _connect(path: Path) -> sqlite3.Connection:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise DataError(f"{path}: must be a regular file with this name alone, is not; remove it")
    # Statements begin and end their transactions themselves. Read-write for readers, too: who comes after a
    # kill completes its journal.
    uri = f"{path.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_S, check_same_thread=False)
    try:
        with translated(path):
            for setting in (
                "trusted_schema = OFF",  # a file from elsewhere may name functions in its schema
                "cell_size_check = ON",
                "temp_store = MEMORY",  # or VACUUM would write all texts to /tmp
                "journal_mode = DELETE",
                "synchronous = FULL",
                "secure_delete = ON",
            ):
                connection.execute(f"PRAGMA {setting}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _names(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    return sorted(
        connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name != 'sqlite_sequence'"),
        key=lambda row: row[:2],
    )
