"""Files that are complete or absent: atomic writes, locks, checksums."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from personality_common.errors import DataError, ToolkitError
from personality_common.files.bounded import read_bounded

LOCK_FILE: Final = ".lock"
"""In a folder that one process at a time may change."""


@contextlib.contextmanager
def atomic_writer(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only if the block ends well.

    Written aside in the same folder, flushed to disk, then renamed: a kill, a full disk or an
    exception leaves what was there before. The folder is created.

    Args:
        private: nobody else may read it (0600): it holds what users wrote.

    Raises:
        OSError: no space, no permission; it names the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{short_name(path.name)}.", suffix=".tmp")
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            # Until it is closed, which a kill does too: what nobody holds may be cleared away.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private:
            # mkstemp makes private files; these are ordinary ones.
            umask = os.umask(0)
            os.umask(umask)
            aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        raise
    sync_folder(path.parent)


def short_name(name: str) -> str:
    """A name that leaves room for more beside it, where 255 bytes are all that a name may have."""
    if len(os.fsencode(name)) <= 200:
        return name
    return f"{name[:40]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def clear_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left in a folder and below; it must be held.

    Others may be at work in it all the same (workers of a fleet, processes of a job): what they hold stays.
    """
    for path in folder.rglob(".*.tmp"):
        if path.is_file() and not path.is_symlink() and not _held(path):
            path.unlink(missing_ok=True)


def _held(path: Path) -> bool:
    """Whether a writer is at work on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # gone, or in place, by now
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write JSON atomically: indented, UTF-8, NaN refused; `private` as `atomic_writer` has it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_writer(path, private=private) as file:
        # Half a character, of a folder's name that is not UTF-8, is written as JSON escapes it.
        file.write(text.encode(errors="backslashreplace") + b"\n")


def read_json_object(path: Path, max_bytes: int = 64 << 20) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: missing, too large, not UTF-8, not JSON, or not an object.
    """
    try:
        value = json.loads(read_bounded(path, max_bytes, "a file of JSON"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: must hold a JSON object, holds a {type(value).__name__}")
    return value


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_own(path: Path) -> int:
    """Open a file of ours that stays, such as a lock, for reading and writing; made where there is none.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        DataError: under its name is a link, a folder, a pipe or a device, or a file with a second name:
            writing to it would change somebody else's file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        # A link, a folder, a pipe that nobody reads, a socket.
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise DataError(
                f"{path}: must be a regular file, is a link or something else; remove it"
            ) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise DataError(f"{path}: must be a regular file with this name alone, is not; remove it")
    return descriptor


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the lock ends with the process, however it ends.

    Raises:
        ToolkitError: another process holds it; the message has its process id.
        DataError: its lock is a link, or anything but a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_own(folder / LOCK_FILE), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ToolkitError(
                f"{folder}: process {file.read().strip() or '?'} is working in this folder; "
                "wait for it, or take another folder"
            ) from None
        if not _is_at(file.fileno(), folder / LOCK_FILE):
            raise ToolkitError(f"{folder}: another process removed it just now; try again")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a file that is open still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
